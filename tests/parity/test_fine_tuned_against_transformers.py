"""Our fine-tuned folders in stock transformers, and theirs in ours: the same logits, both architectures, both heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import nn

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError
from bertwright.hub.task_folder import read_fine_tuned, save_fine_tuned
from bertwright.inference.scoring import score_rows
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.model.task_model import FineTuned
from bertwright.tasks.tagging.task import crf_of
from bertwright.types import LabelledBatch

TOLERANCE = 1e-5
VOCAB = 97
LABELS = ("no", "yes", "perhaps")
SHAPE: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 48}
ARCHITECTURES: dict[str, ModelConfig] = {
    "bert": BertConfig(**SHAPE),
    "modern": ModernConfig(**SHAPE, global_every=2, local_window=8),
    "modern, averaged": ModernConfig(**SHAPE, global_every=2, local_window=8, pooling="mean"),
}
CLASSES = {
    "row": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(VOCAB - 5))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.save(str(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"))
    return next(tmp_path_factory.getbasetemp().glob("tokenizer*")) / "tokenizer.json"


def random_model(name: str, part: HeadType) -> FineTuned:
    torch.manual_seed(0)
    config = ARCHITECTURES[name]
    encoder: Encoder = BertForPreTraining(config) if isinstance(config, BertConfig) else ModernForMaskedLM(config)
    model = FineTuned(encoder, head_type=part, outputs=3, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def some_rows(part: HeadType) -> LabelledRows:
    random = np.random.default_rng(0)
    lengths = np.array([17, 5, 11, 3])
    at = [np.array([0]) if part == "row" else np.arange(1, length - 1, 2) for length in lengths]
    return LabelledRows(
        ids=random.integers(5, VOCAB, size=int(lengths.sum())).astype(np.uint32),
        lengths=lengths,
        first_lengths=lengths // 2 + 1,
        positions=np.concatenate(at),
        num_targets=np.array([len(positions) for positions in at]),
        targets=np.zeros(sum(map(len, at)), dtype=np.int64),
        pad=0,
    )


def their_logits(model: nn.Module, batch: LabelledBatch, part: HeadType, *, types: bool) -> np.ndarray:
    more = {"token_type_ids": batch.token_type_ids} if types else {}
    with torch.inference_mode():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), **more).logits
    if part == "row":
        return logits.numpy()
    positions = batch.targets >= 0
    return logits.gather(1, batch.asked[:, :, None].expand(-1, -1, logits.shape[-1]))[positions].numpy()


@pytest.mark.parametrize("part", ["row", "token"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_folder_in_transformers(name: str, part: HeadType, tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(name, part)
    save_fine_tuned(ours, tokenizer, tmp_path / "model", labels=LABELS, problem="single_label_classification")
    theirs, info = CLASSES[part].from_pretrained(
        tmp_path / "model", attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(theirs).__name__ == json.loads((tmp_path / "model" / "config.json").read_text())["architectures"][0]
    assert theirs.config.id2label == dict(enumerate(LABELS))
    rows = some_rows(part)
    expected = their_logits(theirs.eval(), rows.batch(np.arange(4)), part, types=name == "bert")
    logits = score_rows(ours, rows, device=torch.device("cpu"))
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    assert float(np.abs(logits).max()) > 0.1
    back = read_fine_tuned(tmp_path / "model")
    assert back.labels == LABELS
    np.testing.assert_array_equal(score_rows(back.model, rows, device=torch.device("cpu")), logits)


@pytest.mark.parametrize("part", ["row", "token"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_their_folder_in_ours(name: str, part: HeadType, tokenizer: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "pad_token_id": 0,
        "num_labels": 3,
    }
    special: dict[str, Any] = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    if name == "modern, averaged":
        special["classifier_pooling"] = "mean"
    config = transformers.BertConfig(**shape) if name == "bert" else transformers.ModernBertConfig(**shape, **special)
    theirs = CLASSES[part].from_config(config, attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    opened, rows = read_fine_tuned(tmp_path / "theirs"), some_rows(part)
    assert opened.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    expected = their_logits(theirs, rows.batch(np.arange(4)), part, types=name == "bert")
    np.testing.assert_allclose(
        score_rows(opened.model, rows, device=torch.device("cpu")), expected, atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_transformers_passes_over_a_crf_without_a_word(
    name: str, tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, labels = random_model(name, "token"), ("O", "B-X", "I-X")
    ours.crf = crf_of(labels)
    with torch.no_grad():
        for parameter in ours.crf.parameters():
            parameter.copy_(torch.randn_like(parameter))
    save_fine_tuned(ours, tokenizer, tmp_path / "model", labels=labels, problem="single_label_classification")
    transformers.utils.logging.enable_propagation()
    theirs, info = CLASSES["token"].from_pretrained(tmp_path / "model", output_loading_info=True)
    transformers.utils.logging.disable_propagation()
    assert not any(info.values()), info
    assert not caplog.records
    rows = some_rows("token")
    expected = their_logits(theirs.eval(), rows.batch(np.arange(4)), "token", types=name == "bert")
    back = read_fine_tuned(tmp_path / "model").model
    np.testing.assert_allclose(score_rows(back, rows, device=torch.device("cpu")), expected, atol=TOLERANCE, rtol=0)
    assert back.crf is not None
    for mine, read in zip(ours.crf.state_dict().values(), back.crf.state_dict().values(), strict=True):
        assert torch.equal(mine, read)
    assert torch.equal(ours.crf.next_forbidden, back.crf.next_forbidden)
    file = tmp_path / "model" / "crf.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ModelError, match=r"crf.safetensors"):
        read_fine_tuned(tmp_path / "model")


def test_folders_without_a_whole_head_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    save_fine_tuned(random_model("bert", "row"), tokenizer, tmp_path / "m", labels=LABELS, problem="regression")
    file = tmp_path / "m" / "config.json"
    values = json.loads(file.read_text())
    for change, message in (
        ({"id2label": {"0": "no"}}, "names 1 labels in id2label but its head has 3"),
        ({"architectures": ["BertForMaskedLM"]}, "has no head of a task"),
    ):
        file.write_text(json.dumps(values | change))
        with pytest.raises(ModelError, match=message):
            read_fine_tuned(tmp_path / "m")
    file.write_text(json.dumps(values))
    assert read_fine_tuned(tmp_path / "m").problem == "regression"
