"""A word far behind the first row decides the class: found by windows, and by a row that is cut it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

FILLERS = [f"word{number}" for number in range(8)]
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 6},
    "optimizer": {"learning_rate": 5e-3},
    "batches": {"rows": 16, "max_length": 16},
    "transfer": {"dropout": 0.0, "head_dropout": 0.0},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of two blocks."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, "good", "bad"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=32, heads=2, intermediate_size=64, max_positions=32)
    encoder = build_encoder(shape)
    with torch.no_grad():
        for parameter in encoder.parameters():  # so that texts have different vectors to begin with
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_model(encoder, folder / "tokenizer.json", folder / "model")
    return folder / "model"


def table(path: Path, count: int) -> Path:
    """Write texts of 20 to 60 words, with the one that says the class behind the 16th."""
    random = np.random.default_rng(count)
    rows = []
    for _ in range(count):
        words = random.choice(FILLERS, size=int(random.integers(20, 60))).tolist()
        label = str(random.choice(["good", "bad"]))
        words[int(random.integers(16, len(words)))] = label
        rows.append(f"{' '.join(words)}\t{label}")
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return path


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_windows_read_all_of_a_text(model: Path, tmp_path: Path, pooling: str) -> None:
    files = {split: table(tmp_path / f"{split}.tsv", n) for split, n in {"train": 300, "dev": 60, "test": 50}.items()}
    head = {"windows": pooling, "window_overlap": 4}
    figures = finetune("classify", model, **files, out=tmp_path / "run", settings={**QUICK, "head": head})
    assert figures["test"]["accuracy"] > 0.9
    saved = tmp_path / "run" / "model"
    assert evaluate("classify", saved, files["test"]) == pytest.approx(figures["test"], abs=1e-6)
    texts = [line.split("\t")[0] for line in files["test"].read_text().splitlines()[1:]]
    labels = [line.split("\t")[1] for line in files["test"].read_text().splitlines()[1:]]
    found = [one["label"] for one in predict(saved, texts)]
    assert np.mean([one == two for one, two in zip(found, labels, strict=True)]) == figures["test"]["accuracy"]
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(saved)
    outputs = ["bad", "good", *(["attention"] if pooling == "attention" else [])]
    assert list(stock.config.id2label.values()) == outputs
    if pooling == "mean":
        cut = finetune("classify", model, **files, out=tmp_path / "cut", settings=QUICK)
        assert cut["test"]["accuracy"] < 0.75
