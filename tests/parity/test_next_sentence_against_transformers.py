"""ModernBERT's next-sentence head against stock ModernBertForSequenceClassification: one folder, the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.hub.nsp_folder import is_next_sentence_folder, read_next_sentence, save_next_sentence
from bertwright.hub.task_folder import read_fine_tuned
from bertwright.model.config import ModernConfig
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.types import LabelledBatch

TOLERANCE = 1e-4
VOCAB = 97
SHAPE: dict[str, Any] = {"vocab_size": VOCAB, "heads": 4, "next_sentence": True}
CONFIGS = {
    "all global": ModernConfig(**SHAPE, hidden_size=32, layers=3, intermediate_size=48),
    "local windows": ModernConfig(
        **SHAPE, hidden_size=48, layers=4, intermediate_size=64, global_every=3, local_window=16, pad_token_id=2
    ),
    "one block": ModernConfig(**SHAPE, hidden_size=64, layers=1, intermediate_size=40, layer_norm_eps=1e-6),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(VOCAB - 5))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.add_special_tokens(names[:5])
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return file


def random_model(config: ModernConfig) -> ModernForMaskedLM:
    """Weights far from their first values, so that every one is seen to be in its place."""
    torch.manual_seed(0)
    model = ModernForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.nsp_head.classifier.weight.mul_(3)
    return model


def padded_rows(config: ModernConfig, length: int = 61) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(length)[None] < torch.tensor([length, 2, 30, 47])[:, None]
    return torch.where(mask, torch.randint(5, config.vocab_size, (4, length)), config.pad_token_id), mask


def their_logits(folder: Path, ids: Tensor, mask: Tensor) -> Tensor:
    theirs, info = transformers.ModernBertForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    assert theirs.config.id2label == {0: "is_next", 1: "random"}
    with torch.inference_mode():
        logits: Tensor = theirs.eval()(input_ids=ids, attention_mask=mask.long()).logits
    return logits


@pytest.mark.parametrize("name", CONFIGS)
def test_our_folders_in_transformers(name: str, tokenizer: Path, tmp_path: Path) -> None:
    ours, (ids, mask) = random_model(CONFIGS[name]), padded_rows(CONFIGS[name])
    save_next_sentence(ours, tokenizer, tmp_path / "model-nsp")
    save_model(ours, tokenizer, tmp_path / "model")
    with torch.inference_mode():
        hidden = ours.encode(ids, ids * 0, mask)
        pairs, words = ours.nsp_logits(hidden), ours.mlm_logits(hidden)
    assert pairs is not None
    torch.testing.assert_close(pairs, their_logits(tmp_path / "model-nsp", ids, mask), atol=TOLERANCE, rtol=0)
    assert float(pairs.std()) > 0.5
    theirs, info = transformers.ModernBertForMaskedLM.from_pretrained(
        tmp_path / "model", attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    with torch.inference_mode():
        expected = theirs.eval()(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(words[mask], expected[mask], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_folder_in_ours_whoever_saved_it(name: str, tokenizer: Path, tmp_path: Path) -> None:
    """As the pre-trained model, and as the classifier that export reads; saved by us and by transformers."""
    ours, (ids, mask) = random_model(CONFIGS[name]), padded_rows(CONFIGS[name])
    save_next_sentence(ours, tokenizer, tmp_path / "ours")
    theirs = transformers.ModernBertForSequenceClassification.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    with torch.inference_mode():
        expected = ours.nsp_logits(ours.encode(ids, ids * 0, mask))
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        assert is_next_sentence_folder(folder)
        back, report = read_next_sentence(folder)
        assert {name.split(".")[0] for name in report.initialised} == {"mlm_head"}
        assert report.unused == {}
        classifier = read_fine_tuned(folder)
        assert classifier.labels == ("is_next", "random")
        batch = LabelledBatch(
            input_ids=ids, token_type_ids=ids * 0, attention_mask=mask, asked=ids[:, :1] * 0, targets=ids[:, :1]
        )
        with torch.inference_mode():
            assert torch.equal(back.nsp_logits(back.encode(ids, ids * 0, mask)), expected)
            torch.testing.assert_close(classifier.model(batch)[:, 0], expected, atol=1e-5, rtol=0)


def test_both_folders_hold_the_same_encoder(tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS["local windows"])
    save_next_sentence(ours, tokenizer, tmp_path / "model-nsp")
    save_model(ours, tokenizer, tmp_path / "model")
    pairs, words = (load_file(tmp_path / name / "model.safetensors") for name in ("model-nsp", "model"))
    encoder = {name for name in words if name.startswith("model.")}
    assert all(torch.equal(pairs[name], words[name]) for name in encoder)
    assert set(pairs) - encoder == {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"}
    assert not is_next_sentence_folder(tmp_path / "model")
    assert not load_model(tmp_path / "model").has_nsp_head


def test_a_head_that_learns_has_their_gradients(tokenizer: Path, tmp_path: Path) -> None:
    ours, (ids, mask) = random_model(CONFIGS["local windows"]).train(), padded_rows(CONFIGS["local windows"])
    save_next_sentence(ours, tokenizer, tmp_path / "model-nsp")
    theirs = transformers.ModernBertForSequenceClassification.from_pretrained(
        tmp_path / "model-nsp", attn_implementation="eager"
    ).train()
    labels = torch.tensor([0, 1, 1, 0])
    logits = ours.nsp_logits(ours.encode(ids, ids * 0, mask, ids[:, :1] * 0))
    torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call,arg-type]
    theirs(input_ids=ids, attention_mask=mask.long(), labels=labels).loss.backward()
    expected = {
        ours.nsp_head.dense.weight: theirs.head.dense.weight,
        ours.nsp_head.classifier.weight: theirs.classifier.weight,
        ours.embeddings.words.weight: theirs.model.embeddings.tok_embeddings.weight,
    }
    for mine, other in expected.items():
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-4)
        assert float(other.grad.abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"id2label": {"0": "random", "1": "is_next"}}, r"id2label.*is_next.*random"),
        ("config.json", {"classifier_pooling": "mean"}, r"classifier_pooling.*'cls'"),
        ("config.json", {"hidden_size": 64}, "asks for"),
    ],
)
def test_a_changed_folder_is_refused(
    file: str, change: dict[str, Any], message: str, tokenizer: Path, tmp_path: Path
) -> None:
    save_next_sentence(random_model(CONFIGS["all global"]), tokenizer, tmp_path / "model-nsp")
    path = tmp_path / "model-nsp" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        read_next_sentence(tmp_path / "model-nsp")


def test_a_head_without_weights_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    """As where a ModernBertForMaskedLM lies under the config.json of a next-sentence head."""
    ours = random_model(CONFIGS["all global"])
    save_next_sentence(ours, tokenizer, tmp_path / "model-nsp")
    save_model(ours, tokenizer, tmp_path / "model")
    (tmp_path / "model-nsp" / "model.safetensors").write_bytes((tmp_path / "model" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"2 weights.*classifier\.weight"):
        read_next_sentence(tmp_path / "model-nsp")
