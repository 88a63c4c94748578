"""Turns Hugging Face folders into figures on the same held-out text: masked words, or next sentences, by transformers.

    python benchmarks/peers/evaluate_folders.py --data DATA RUN/model peer/model    # whole words
    python benchmarks/peers/evaluate_folders.py --data DATA RUN/model peer/model --single-tokens    # single tokens
    python benchmarks/peers/evaluate_folders.py --data DATA RUN/model --nsp    # sentence pairs

Rows, masks (80/10/10) and pairs are fixed by the data alone; they are those of `bertwright evaluate` (of "nsp" too,
where 15% of the tokens, single ones, are masked as in training). The models are loaded and run by transformers in
float32, ours like the peers'. For --nsp a folder is a BERT with its next-sentence head (BertForPreTraining,
BertForNextSentencePrediction), or a sequence classifier with the labels "is_next" and "random"
(ModernBertForSequenceClassification).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import Shards
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.nsp import pair_figures, pair_sums
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.held_out import fixed_examples
from bertwright.types import MaskedBatch, flat_sums, part_figures

LABELS = ("is_next", "random")
"""Names of labels 0 and 1 of a sentence pair."""


def evaluation_rows(
    data: Path, *, rows: int, length: int, whole_word: bool = True, pairs: bool = False
) -> list[MaskedBatch]:
    """Return the fixed masked rows, or sentence pairs, of the held-out split of a DATA folder."""
    tokenizer = load_tokenizer(data / "tokenizer")
    objective = build_objective(
        ObjectiveConfig(next_sentence=pairs, whole_word=whole_word),
        vocab_size=read_manifest(data)["tokenizer"]["vocab_size"],
        mask_id=tokenizer.special.mask,
    )
    return fixed_examples(Shards.open(data, "valid"), tokenizer, objective, length=length, rows=rows)


@torch.inference_mode()
def evaluate(model: PreTrainedModel, examples: list[MaskedBatch]) -> dict[str, float]:
    """Return nats a masked token and the share guessed right."""
    loss, right, count = 0.0, 0, 0
    for example in examples:
        logits = model(input_ids=example.input_ids, attention_mask=example.attention_mask.long()).logits.float()
        used = example.masked_weights > 0
        rows = torch.arange(len(logits))[:, None].expand_as(example.masked_positions)[used]
        scores = logits[rows, example.masked_positions[used]]
        labels = example.masked_labels[used]
        loss += float(torch.nn.functional.cross_entropy(scores, labels, reduction="sum"))
        right += int((scores.argmax(-1) == labels).sum())
        count += len(labels)
    return {"mlm_loss": round(loss / count, 4), "mlm_accuracy": round(right / count, 4)}


@torch.inference_mode()
def evaluate_pairs(model: PreTrainedModel, examples: list[MaskedBatch]) -> dict[str, float]:
    """Return nats a pair, accuracy, balanced accuracy and the share of the more frequent class."""
    order = label_order(model.config)
    totals: dict[str, float] = {}
    for example in examples:
        assert example.next_label is not None
        inputs = {"input_ids": example.input_ids, "attention_mask": example.attention_mask.long()}
        if getattr(model.config, "type_vocab_size", 1) > 1:
            inputs["token_type_ids"] = example.token_type_ids
        parts = pair_sums(model(**inputs).logits[:, order], example.next_label)[1]
        for name, value in flat_sums(parts).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return {name: round(value, 4) for name, value in (part_figures(totals) | pair_figures(totals)).items()}


def label_order(config: PretrainedConfig) -> list[int]:
    """Return at which outputs of a model the labels 0 (B continues A) and 1 (random B) stand."""
    if not is_classifier(config):
        return [0, 1]
    places = {name: int(place) for place, name in config.id2label.items()}
    if set(places) != set(LABELS):
        raise SystemExit(
            f"its labels are {', '.join(places)}; a classifier of sentence pairs has {' and '.join(LABELS)}"
        )
    return [places[name] for name in LABELS]


def is_classifier(config: PretrainedConfig) -> bool:
    """Say whether a folder holds a sequence classifier."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def load(kind: Any, folder: Path) -> PreTrainedModel:
    """Return the model of a folder; ends the script where weights are missing, which would be drawn at random."""
    model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"]:
        raise SystemExit(f"{folder} has no weights for {', '.join(sorted(info['missing_keys']))}; give another folder")
    return model.eval()


def evaluate_folder(folder: Path, examples: list[MaskedBatch], *, nsp: bool = False) -> dict[str, float]:
    """Return the figures of a model folder and its number of weights."""
    kind = AutoModelForMaskedLM
    if nsp:
        classifier = is_classifier(AutoConfig.from_pretrained(folder))
        kind = AutoModelForSequenceClassification if classifier else AutoModelForNextSentencePrediction
    model = load(kind, folder)
    figures = evaluate_pairs(model, examples) if nsp else evaluate(model, examples)
    return {**figures, "parameters": sum(parameter.numel() for parameter in model.parameters())}


def main() -> None:
    """Print a JSON object of figures by folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--single-tokens", action="store_true", help="mask single tokens instead of whole words")
    what.add_argument("--nsp", action="store_true", help="evaluate next-sentence prediction instead of masked words")
    arguments = parser.parse_args()
    examples = evaluation_rows(
        arguments.data,
        rows=arguments.rows,
        length=arguments.length,
        whole_word=not (arguments.single_tokens or arguments.nsp),
        pairs=arguments.nsp,
    )
    figures = {str(folder): evaluate_folder(folder, examples, nsp=arguments.nsp) for folder in arguments.models}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
