"""Makes a small pre-trained model and small fine-tuned ones with weights large enough to differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
import torch

from bertwright.hub.encoder_folder import save_model
from bertwright.hub.task_folder import save_fine_tuned
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.task_model import FineTuned, Problem
from bertwright.tasks.by_name import config_to_keep
from bertwright.tasks.ranking.task import Rank

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "list", "is", "empty", "return", "true", "if", "a", "fine",
    "film", "anna", "lives", "in", "graz", "who", "##s", ".", "?", "it", "rains", "they", "go", "home", "中", "国",
]  # fmt: skip


def small_encoder() -> Encoder:
    """Return a tiny BERT whose weights are moved away from their first values."""
    torch.manual_seed(5)
    shape = named_size(
        "tiny", vocab_size=len(WORDS), layers=2, hidden_size=32, heads=2, intermediate_size=48, max_positions=48
    )
    encoder = build_encoder(shape).eval()
    for parameter in encoder.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return encoder


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a WordPiece tokenizer of a few words; return its folder."""
    folder = tmp_path_factory.mktemp("vocabulary")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.add_special_tokens(WORDS[:5])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def pretrained(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model with both heads of pre-training; return its folder."""
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    save_model(small_encoder(), vocabulary, folder)
    return folder


@pytest.fixture(scope="session")
def fine_tuned(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a model of each task whose predictions are explained; return their folders by name."""
    kinds: dict[str, tuple[HeadType, tuple[str, ...], Problem]] = {
        "classify": ("row", ("bad", "fair", "good"), "single_label_classification"),
        "several": ("row", ("plot", "music", "cast"), "multi_label_classification"),
        "regress": ("row", ("score",), "regression"),
        "tag": ("token", ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), "single_label_classification"),
        "rank": ("row", ("rank",), "regression"),
        "choose": ("choice", ("choice",), "single_label_classification"),
        "answer": ("span", ("start", "end"), "single_label_classification"),
    }
    folders = {}
    for name, (head_type, labels, problem) in kinds.items():
        model = FineTuned(small_encoder(), head_type=head_type, outputs=len(labels), dropout=0.0).eval()
        model.classifier.weight.data.mul_(20)
        folders[name] = tmp_path_factory.mktemp(name) / "model"
        own = config_to_keep(Rank.from_labels(["rank"], {"top_grade": 3})) if name == "rank" else None
        save_fine_tuned(model, vocabulary, folders[name], labels=labels, problem=problem, extra_config=own)
    return folders
