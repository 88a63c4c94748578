"""Turns ModernBERT's next-sentence head into a second Hugging Face folder, and back.

transformers has no ModernBERT with two heads, so a run writes two folders with the same encoder: RUN/model is a
ModernBertForMaskedLM, RUN/model-nsp a ModernBertForSequenceClassification with the labels "is_next" and "random". The
head of a run of sentence order prediction is the same head: its folder is RUN/model-sop, with the labels "in_order" and
"swapped". BERT keeps either head in RUN/model, whose config.json says where it tells the order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import GENERATOR, LoadReport, config_of, hf_tensors, read_weights, write_folder
from bertwright.hub.mappings.modernbert_names import MODERN
from bertwright.hub.onnx.onnx_folder import NEXT_SENTENCE, SENTENCE_ORDER
from bertwright.hub.reference_outputs import KnownHead
from bertwright.hub.task_folder import EXTRA_CONFIG, head_config, head_type_of
from bertwright.hub.weights import WEIGHTS, read_object
from bertwright.model.encoder import Encoder
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.model.random_state import kept_random_state
from bertwright.tokenizer.load import load_tokenizer

FOLDER, ORDER_FOLDER = "model-nsp", "model-sop"
"""What the folder of the head is called, beside RUN/model: of next sentences, of the order of sentences."""
SUFFIXES = ("-nsp", "-sop")
LABELS, ORDER_LABELS = ("is_next", "random"), ("in_order", "swapped")
"""Its outputs: B continues A, B comes from another document; or A stands before B in the text, or after it."""

HEAD_ALONE = replace(
    MODERN,
    left_out=("mlm_head.", "output_words."),
    modules={
        **MODERN.modules,
        "head.dense": ("nsp_head.dense",),
        "head.norm": ("nsp_head.norm",),
        "classifier": ("nsp_head.classifier",),
    },
)
"""How Hugging Face writes down ModernBERT with a next-sentence head in the place of the masked-token head."""


def has_own_folder(model: Encoder) -> bool:
    """Say whether the next-sentence head of a model is kept in a second folder, as ModernBERT's is."""
    return model.has_nsp_head and isinstance(model, ModernForMaskedLM)


def save_next_sentence(
    model: Encoder, tokenizer: Path, out: Path, *, order: bool = False, card: str | None = None
) -> None:
    """Write encoder and next-sentence head of `model` to the folder `out`, whole or not at all.

    `model` is one with `has_own_folder`; `order` says that the head tells the order of two segments. Raises ModelError
    as `save_model` does.
    """
    settings = head_config(
        MODERN,
        "row",
        labels=ORDER_LABELS if order else LABELS,
        problem="single_label_classification",
        dropout=0.0,
        extra={SENTENCE_ORDER if order else NEXT_SENTENCE: True},
    )
    tensors = {WEIGHTS: hf_tensors(model, HEAD_ALONE)}
    words = load_tokenizer(tokenizer)
    write_folder(out, model.config, words, tensors=tensors, settings=settings, card=card, read=read_nsp_encoder)


def is_next_sentence_folder(folder: Path) -> bool:
    """Say whether `folder` is one that `save_next_sentence` wrote."""
    if not (folder / "config.json").is_file() or head_type_of(folder) != "row":
        return False
    extra = read_object(folder / "config.json").get(EXTRA_CONFIG)
    return isinstance(extra, dict) and (extra.get(NEXT_SENTENCE) is True or extra.get(SENTENCE_ORDER) is True)


def order_settings() -> dict[str, Any]:
    """Return what the config.json of a BERT says whose head for pairs tells their order; transformers ignores it."""
    return {EXTRA_CONFIG: {SENTENCE_ORDER: True}}


def tells_order(folder: Path) -> bool:
    """Say whether the head for pairs of a folder says if they are in order, instead of if the second one follows."""
    file = folder / "config.json"
    extra = read_object(file).get(EXTRA_CONFIG) if file.is_file() else None
    return isinstance(extra, dict) and extra.get(SENTENCE_ORDER) is True


def require_question(folder: Path, *, order: bool) -> None:
    """Raise ModelError where the head for pairs of a folder answers the other question about them."""
    if tells_order(folder) is order:
        return
    if order:
        raise ModelError(
            f"the head of {folder} says if the second of two segments follows the first, not if they are in order; "
            "give `evaluate nsp`, or a model pre-trained with objective sop"
        )
    raise ModelError(
        f"the head of {folder} says if two segments are in order, not if the second one follows; give `evaluate sop`"
    )


@kept_random_state()
def read_next_sentence(folder: Path) -> tuple[Encoder, LoadReport]:
    """Return the model of a next-sentence folder, in evaluation mode, and what did not match: its masked-token head.

    That head is drawn at random. Raises ModelError where the folder is none of these, or not whole.

    >>> read_next_sentence(Path("runs/en/model-nsp"))[0].has_nsp_head  # needs a model  # doctest: +SKIP
    True
    """
    values = read_object(folder / "config.json")
    names, labels = values.get("id2label"), ORDER_LABELS if tells_order(folder) else LABELS
    if not isinstance(names, dict) or tuple(names.get(str(index)) for index in range(len(labels))) != labels:
        raise ModelError(
            f"{folder}/config.json: id2label should name {' and '.join(labels)}, in this order; copy the folder again"
        )
    _, config = config_of(values, folder)
    if config.averages_rows:
        raise ModelError(f"{folder}/config.json: a next-sentence head reads [CLS]; set classifier_pooling to 'cls'")
    return read_weights(folder, config.model_copy(update={"next_sentence": True}), HEAD_ALONE)


def read_nsp_encoder(folder: Path) -> tuple[Encoder, KnownHead]:
    """Return the model of a next-sentence folder; that its next-sentence head is known."""
    return read_next_sentence(folder)[0], "nsp"


def lacks_head(folder: Path, head: Literal["next-sentence", "masked-token"]) -> ModelError:
    """Return the error of asking a model for a head it has not; names the folder beside it, if that has the head."""
    if head == "next-sentence":
        others = [folder.parent / f"{folder.name}{suffix}" for suffix in SUFFIXES]
        other = next((one for one in others if is_next_sentence_folder(one)), others[0])
        found = is_next_sentence_folder(other)
    else:
        generator = folder.parent / GENERATOR
        bare = folder.parent / folder.name.removesuffix(SUFFIXES[0]).removesuffix(SUFFIXES[1])
        other = bare if is_next_sentence_folder(folder) else generator
        found = other != folder and (other / "config.json").is_file()
    return ModelError(f"{folder} has no {head} head; give {other if found else 'a folder pre-trained with one'}")
