"""Pseudo-log-likelihoods against the definition, a token at a time, by transformers; the verb on a file of pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from bertwright.errors import CorpusError, InputError
from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.inference.minimal_pairs import pseudo_log_likelihoods
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.evaluate import evaluate

WORDS = ["the", "cat", "cats", "sleep", "sleeps", "dog", "dogs", "run", "runs", "quickly"]
PAIRS = [
    {"good": "the cat sleeps", "bad": "the cat sleep", "field": "agreement", "paradigm": "one"},
    {"good": "the dogs run quickly", "bad": "the dogs runs quickly", "field": "agreement", "paradigm": "two"},
    {"good": "dogs sleep", "bad": "sleep dogs", "field": "order", "paradigm": "three"},
]


@pytest.fixture(scope="module", params=["bert", "modern"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(names[:5])
    folder = tmp_path_factory.mktemp(request.param)
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size(
        "tiny", architecture=request.param, vocab_size=len(names), max_positions=16, initializer_range=0.2
    )
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def by_definition(folder: Path, text: str) -> float:
    """Mask each token in turn and add up the log-probability of what stood there."""
    words = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.tensor([[2, *words(text, add_special_tokens=False)["input_ids"], 3]])
    total = 0.0
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, place] = 4
        with torch.inference_mode():
            logits = model(input_ids=masked).logits[0, place]
        total += float(torch.log_softmax(logits, -1)[ids[0, place]])
    return total


def test_sums_are_those_of_the_definition(folder: Path) -> None:
    texts = [pair[kind] for pair in PAIRS for kind in ("good", "bad")]
    ours = pseudo_log_likelihoods(load_model(folder), load_tokenizer(folder), texts)
    assert ours.tolist() == pytest.approx([by_definition(folder, text) for text in texts], abs=1e-4)
    assert len({round(value, 3) for value in ours.tolist()}) == len(texts)


def test_the_verb_counts_by_paradigm_and_field(folder: Path, tmp_path: Path) -> None:
    """Half of the pairs are turned round, so that their paradigm must come out as the complement."""
    turned = [{**pair, "good": pair["bad"], "bad": pair["good"], "paradigm": "x"} for pair in PAIRS]
    for name, pairs in (("as-is", PAIRS), ("turned", turned), ("both", PAIRS + turned)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    as_is, turned_round, both = (
        evaluate("minimal-pairs", folder, tmp_path / f"{name}.jsonl") for name in ("as-is", "turned", "both")
    )
    assert turned_round["accuracy"] == pytest.approx(1 - as_is["accuracy"])
    assert set(as_is) == {"accuracy", "agreement", "order"}
    assert both["agreement"] == 0.5
    assert both["accuracy"] == pytest.approx((3 * as_is["accuracy"] + turned_round["accuracy"]) / 4)


def test_what_is_no_pair_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(PAIRS[0]) + '\n{"good": "the cat"}\n')
    with pytest.raises(CorpusError, match=r"bad\.jsonl pair 2"):
        evaluate("minimal-pairs", folder, tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CorpusError, match="is empty"):
        evaluate("minimal-pairs", folder, tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match="reads 1 to 14"):
        pseudo_log_likelihoods(load_model(folder), load_tokenizer(folder), ["the cat " * 8])
