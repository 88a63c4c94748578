"""Judges a pre-trained model on text it has not seen: held-out MLM loss and accuracy, or next-sentence accuracy."""

from __future__ import annotations

from pathlib import Path

from bertwright.corpus.shards import Shards, read_manifest
from bertwright.errors import DataError, UsageError
from bertwright.evaluate.held_out import held_out_figures
from bertwright.export.huggingface import load_model
from bertwright.files import sha256_of
from bertwright.log import print_facts
from bertwright.objectives.combine import ObjectiveConfig, build_objective
from bertwright.recipes.parts import EVALUATION_ROWS, fixed_examples
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.precision import pick_device

KINDS = ("mlm", "nsp")


def evaluate(
    kind: str,
    model: Path | str,
    data: Path | str,
    *,
    split: str = "valid",
    length: int = 128,
    rows: int = 4096,
    whole_word: bool = False,
) -> dict[str, float]:
    """Return the figures of a MODEL folder on a split of a DATA folder, with fixed rows and masks, in float32.

    `kind` "mlm" packs full sentences of one document into rows of `length`; "nsp" makes sentence pairs and also gives
    the MLM figures on them. Up to `rows` rows, at most one pass. Raises UsageError for another kind and DataError where
    model and data have different tokenizers.
    """
    if kind not in KINDS:
        raise UsageError(f"nothing called {kind!r} can be evaluated; known: {', '.join(KINDS)}")
    model, data = Path(model), Path(data)
    tokenizer, manifest = load_tokenizer(model), read_manifest(data)
    if sha256_of(tokenizer.path) != manifest["tokenizer"]["sha256"]:
        raise DataError(
            f"{data} was prepared with another tokenizer than {model}'s; prepare it with --tokenizer {model}"
        )
    device = pick_device()
    network = load_model(model).to(device)
    if length > network.config.max_positions:
        raise UsageError(f"--length {length} is past the model's {network.config.max_positions} positions")
    objective = build_objective(
        ObjectiveConfig(next_sentence=kind == "nsp", whole_word=whole_word),
        vocab_size=network.config.vocab_size,
        mask_id=tokenizer.special.mask,
    )
    examples = fixed_examples(Shards.open(data, split), tokenizer, objective, length=length, rows=rows)
    figures = held_out_figures(network, objective, examples, device=device)
    shown = {name.replace("_", " "): f"{value:.4f}" for name, value in figures.items()}
    entropy = {"unigram entropy of the training corpus": f"{manifest['unigram_entropy']:.4f}"}
    print_facts(
        f"{model} on {data} ({split}, {len(examples) * EVALUATION_ROWS:,} rows of {length})", {**shown, **entropy}
    )
    return figures
