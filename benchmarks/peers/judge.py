"""Judges any Hugging Face masked-language-model folders on the same whole-word-masked held-out text, by transformers.

    python benchmarks/peers/judge.py --data DATA runs/ours/model peer/model

Rows, words and corruption (15% of the tokens, whole words, 80/10/10) are fixed by the data alone. The models are loaded
and run by transformers in float32, ours like the peers'.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

from bertwright.corpus.shards import Shards, read_manifest
from bertwright.objectives.combine import ObjectiveConfig, build_objective
from bertwright.recipes.parts import fixed_examples
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import Example


def judged_rows(data: Path, *, rows: int, length: int, whole_word: bool = True) -> list[Example]:
    """Return the fixed masked rows of the held-out split of a DATA folder."""
    tokenizer = load_tokenizer(data / "tokenizer")
    objective = build_objective(
        ObjectiveConfig(next_sentence=False, whole_word=whole_word),
        vocab_size=read_manifest(data)["tokenizer"]["vocab_size"],
        mask_id=tokenizer.special.mask,
    )
    return fixed_examples(Shards.open(data, "valid"), tokenizer, objective, length=length, rows=rows)


@torch.inference_mode()
def judge(model: PreTrainedModel, examples: list[Example]) -> dict[str, float]:
    """Return nats a masked token and the share guessed right."""
    loss, right, count = 0.0, 0, 0
    for example in examples:
        logits = model(input_ids=example.input_ids, attention_mask=example.attention_mask.long()).logits.float()
        used = example.masked_weights > 0
        rows = torch.arange(len(logits))[:, None].expand_as(example.masked_positions)[used]
        asked = logits[rows, example.masked_positions[used]]
        labels = example.masked_labels[used]
        loss += float(torch.nn.functional.cross_entropy(asked, labels, reduction="sum"))
        right += int((asked.argmax(-1) == labels).sum())
        count += len(labels)
    return {"mlm_loss": round(loss / count, 4), "mlm_accuracy": round(right / count, 4)}


def judge_folder(folder: Path, examples: list[Example]) -> dict[str, float]:
    """Return the figures of a model folder and its number of weights."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    return {**judge(model, examples), "parameters": sum(parameter.numel() for parameter in model.parameters())}


def main() -> None:
    """Print a JSON object of figures by folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    arguments = parser.parse_args()
    examples = judged_rows(arguments.data, rows=arguments.rows, length=arguments.length)
    figures = {str(folder): judge_folder(folder, examples) for folder in arguments.models}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
