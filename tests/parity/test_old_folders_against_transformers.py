"""Folders as they were written before 2020, and untied ones, give what transformers gives, in every verb.

They hold vocab.txt, pytorch_model.bin with LayerNorms of gamma and beta, and a config.json without model_type.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from bertwright import embed, evaluate, export, finetune, predict, verify
from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.pickled_weights import read_pickled
from bertwright.reports.model_table import show_model
from bertwright.verbs.calls.folder_kind import kind_of_folder

WORDS = [
    "the", "a", "boat", "sea", "sails", "far", "home", "sun", "moon", "is", "red", "old", "new", "and", "we", "see",
    "it", "##s", "##ed", ".", ",", "!",
]  # fmt: skip
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = ["The boat sails home.", "we see the red sun, and it is old!", "A new moon"]
TOLERANCE = 1e-5
NEW_NAMES = {"weight": "gamma", "bias": "beta"}


def _old_name(name: str) -> str:
    part, _, leaf = name.rpartition(".")
    return f"{part}.{NEW_NAMES[leaf]}" if part.endswith("LayerNorm") else name


def _old_folder(folder: Path, *, legacy: bool = True, classes: int | None = None, tied: bool = True) -> Path:
    """Write such a folder of transformers' BERT, with a pre-training head, or one of so many classes."""
    torch.manual_seed(4)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, num_labels=classes or 2, tie_word_embeddings=tied,
    )  # fmt: skip
    kind = transformers.BertForPreTraining if classes is None else transformers.BertForSequenceClassification
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    values = json.loads((folder / "config.json").read_text())
    for name in ("model_type", "architectures", "transformers_version", "dtype", "tie_word_embeddings"):
        values.pop(name, None)
    if classes is not None:
        values |= {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(values))
    torch.save(
        {_old_name(name): tensor for name, tensor in model.state_dict().items()},
        folder / "pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    return folder


def _theirs(folder: Path, texts: list[str]) -> tuple[transformers.PreTrainedModel, transformers.BatchEncoding]:
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    return transformers.BertModel.from_pretrained(folder).eval(), tokenizer(texts, padding=True, return_tensors="pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_vectors_of_an_old_folder(tmp_path: Path, legacy: bool) -> None:
    folder = _old_folder(tmp_path / "old", legacy=legacy)
    theirs, batch = _theirs(folder, TEXTS)
    with torch.inference_mode():
        states = theirs(**batch).last_hidden_state
    kept = batch["attention_mask"][:, :, None]
    expected = (states * kept).sum(1) / kept.sum(1)
    np.testing.assert_allclose(embed(folder, TEXTS), expected.numpy(), atol=TOLERANCE)


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path / "old", legacy=False)
    before = embed(folder, TEXTS)
    tensors = torch.load(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").unlink()
    places = {name: f"pytorch_model-0000{place % 2 + 1}-of-00002.bin" for place, name in enumerate(tensors)}
    for file in set(places.values()):
        torch.save({name: tensors[name] for name in places if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    np.testing.assert_array_equal(embed(folder, TEXTS), before)


def test_masked_words_of_an_old_folder(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path / "old")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    batch = tokenizer(["the [MASK] sails"], return_tensors="pt")
    with torch.inference_mode():
        logits = theirs(**batch).logits[0, 2]
    expected = {tokenizer.convert_ids_to_tokens(i): p for i, p in enumerate(logits.softmax(-1).tolist())}
    ((guesses,),) = (answer["predictions"] for answer in predict(folder, ["the [MASK] sails"], precision="fp32"))
    assert {word: pytest.approx(share, abs=TOLERANCE) for word, share in guesses} == {
        word: expected[word] for word, _ in guesses
    }


def test_classes_of_an_old_folder(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path / "old", classes=3)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = theirs(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.softmax(-1)
    answers = predict(folder, TEXTS, precision="fp32")
    assert [answer["label"] for answer in answers] == [f"LABEL_{place}" for place in expected.argmax(-1).tolist()]
    assert [answer["probability"] for answer in answers] == pytest.approx(expected.amax(-1).tolist(), abs=TOLERANCE)


def _rows(folder: Path) -> Path:
    file = folder / "rows.tsv"
    lines = [f"{text}\t{label}" for text, label in zip(TEXTS * 4, "abc" * 4, strict=True)]
    file.write_text("\n".join(["text\tlabel", *lines, ""]))
    return file


VERBS: dict[str, Callable[[Path, Path], object]] = {
    "finetune": lambda model, out: finetune(
        "classify", model, _rows(out.parent), dev=_rows(out.parent), out=out, settings={"schedule": {"epochs": 1}}
    ),
    "predict": lambda model, out: predict(model, ["the [MASK] sails"]),
    "embed": lambda model, out: embed(model, TEXTS, out.with_suffix(".npy")),
    "evaluate": lambda model, out: evaluate("minimal-pairs", model, _pairs(out.parent)),
    "export": lambda model, out: export(model, out),
    "show": lambda model, out: show_model(model),
    "verify": lambda model, out: verify(model),
}


def _pairs(folder: Path) -> Path:
    file = folder / "pairs.jsonl"
    file.write_text('{"good": "the boat sails", "bad": "the boat sail"}\n')
    return file


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_an_old_folder(tmp_path: Path, verb: str) -> None:
    folder = _old_folder(tmp_path / "old")
    assert kind_of_folder(folder) == "model"
    VERBS[verb](folder, tmp_path / "out")
    if verb == "finetune":
        assert (tmp_path / "out" / "model" / "tokenizer.json").is_file()


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export"])
def test_an_untied_head_is_used(tmp_path: Path, verb: str) -> None:
    folder = _old_folder(tmp_path / "untied", legacy=False, tied=False)
    assert not read_model(folder)[0].config.tie_word_embeddings
    VERBS[verb](folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"type_vocab_size": 1}, "None"),  # RoBERTa's
        ({"architectures": ["AlbertModel"]}, "'albert'"),
        ({"embedding_size": 16}, "None"),  # ALBERT's and ELECTRA's
    ],
)
def test_old_folders_of_other_kinds_are_refused(tmp_path: Path, values: dict[str, object], match: str) -> None:
    folder = _old_folder(tmp_path / "old")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(ModelError, match=match):
        read_model(folder)


def test_a_pickle_that_runs_something_is_not_run(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    folder = _old_folder(tmp_path / "old")
    shutil.copy(folder / "pytorch_model.bin", tmp_path / "kept.bin")
    for legacy in (False, True):
        held = torch.load(tmp_path / "kept.bin") | {"x": Touch()}
        torch.save(held, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ModelError, match="mkdir"):
            read_model(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "held",
    [
        [torch.ones(2)],
        {},
        {"model": {"bert.pooler.dense.weight": torch.ones(2)}},
        {"bert.pooler.dense.weight": torch.ones(1).expand(10**12)},
        {"bert.pooler.dense.weight": torch.ones(2, 2).to_sparse()},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_no_set_of_weights_is_refused(tmp_path: Path, held: object, legacy: bool) -> None:
    folder = _old_folder(tmp_path / "old")
    torch.save(held, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        read_model(folder)


def test_a_pickle_of_something_else_is_refused_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": [1]}, protocol=4))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ModelError, match=r"weights.*damaged"):
            read_pickled(tmp_path / "pytorch_model.bin")
    assert not seen


def test_a_modernbert_with_its_weights_in_a_pickle(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path / "modern")
    torch.manual_seed(5)
    theirs = transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(
            vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=16, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS[:1], return_tensors="pt")
    with torch.inference_mode():
        states = theirs.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    np.testing.assert_allclose(embed(folder, TEXTS[:1]), states.mean(1).numpy(), atol=TOLERANCE)
