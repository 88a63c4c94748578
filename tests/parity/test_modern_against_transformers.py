"""Our ModernBERT against Hugging Face transformers: the same weights give the same logits, whoever saved them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import load_model, read_model, save_model
from bertwright.model.config import ModernConfig
from bertwright.model.modernbert import ModernForMaskedLM

TOLERANCE = 1e-4
VOCAB = 97

CONFIGS = {
    "all global": ModernConfig(vocab_size=VOCAB, hidden_size=32, layers=3, heads=4, intermediate_size=48),
    "local windows": ModernConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        layers=4,
        heads=2,
        intermediate_size=64,
        global_every=3,
        local_window=16,
        global_theta=160_000.0,
        pad_token_id=2,
    ),
    "one block": ModernConfig(
        vocab_size=VOCAB, hidden_size=64, layers=1, heads=1, intermediate_size=40, layer_norm_eps=1e-6
    ),
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
    """Weights far from their first values, so that every norm and gate is seen to be in its place."""
    torch.manual_seed(0)
    model = ModernForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def padded_rows(config: ModernConfig, length: int = 61) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(length)[None] < torch.tensor([length, 2, 30, 47])[:, None]
    return torch.where(mask, torch.randint(5, config.vocab_size, (4, length)), config.pad_token_id), mask


@pytest.mark.parametrize("name", CONFIGS)
def test_our_folder_in_transformers(name: str, tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS[name])
    save_model(ours, tokenizer, tmp_path / "model")
    theirs, info = transformers.ModernBertForMaskedLM.from_pretrained(
        tmp_path / "model", attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    ids, mask = padded_rows(CONFIGS[name])
    with torch.inference_mode():
        mine = ours.mlm_logits(ours.encode(ids, ids * 0, mask))
        yours = theirs.eval()(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(mine[mask], yours[mask], atol=TOLERANCE, rtol=0)
    assert float(mine.abs().max()) > 0.5


@pytest.mark.parametrize("name", CONFIGS)
def test_their_folder_in_ours(name: str, tokenizer: Path, tmp_path: Path) -> None:
    config = CONFIGS[name]
    torch.manual_seed(2)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size,
        "local_attention": config.local_window,
        "global_attn_every_n_layers": config.global_every,
        "pad_token_id": config.pad_token_id,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    theirs = transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(**shape, attn_implementation="eager")
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    ours, report = read_model(tmp_path / "theirs")
    assert report.initialised == ()
    assert report.unused == {}
    ids, mask = padded_rows(config)
    with torch.inference_mode():
        mine = ours.mlm_logits(ours.encode(ids, ids * 0, mask))
        yours = theirs(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(mine[mask], yours[mask], atol=TOLERANCE, rtol=0)


def test_gradients_are_theirs(tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS["local windows"]).train()
    save_model(ours, tokenizer, tmp_path / "model")
    theirs = transformers.ModernBertForMaskedLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    ids, mask = padded_rows(CONFIGS["local windows"])
    ours.mlm_logits(ours.encode(ids, ids * 0, mask))[mask].square().mean().backward()  # type: ignore[no-untyped-call]
    theirs.train()(input_ids=ids, attention_mask=mask.long()).logits[mask].square().mean().backward()
    query = theirs.model.layers[1].attn.Wqkv.weight.grad[:48]
    mine = ours.blocks[1].attention.query.weight.grad
    torch.testing.assert_close(mine, query, atol=1e-5, rtol=1e-4)
    assert float(query.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "global block"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "'yarn'"),
        ({"norm_bias": True}, r"norm_bias True.*False"),
        ({"num_attention_heads": 32}, r"heads.*1 units"),
    ],
)
def test_what_we_cannot_be_is_refused(change: dict[str, Any], message: str, tokenizer: Path, tmp_path: Path) -> None:
    save_model(random_model(CONFIGS["all global"]), tokenizer, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model")


def test_tokenizer_gives_what_the_model_reads(tokenizer: Path, tmp_path: Path) -> None:
    save_model(random_model(CONFIGS["all global"]), tokenizer, tmp_path / "model")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert model(**words("word1 word2", return_tensors="pt")).logits.shape[-1] == VOCAB
