"""Reading damaged and foreign model folders: each fails with one sentence; old names are understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from bertwright.errors import ModelError
from bertwright.hub.cards.model_cards import model_card
from bertwright.hub.encoder_folder import load_model, read_model, save_model
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]


def write_tokenizer(file: Path, names: list[str]) -> Path:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.save(str(file))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model folder of the smallest shape."""
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(NAMES), hidden_size=8, heads=2, intermediate_size=16, max_positions=12)
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json", NAMES)
    save_model(BertForPreTraining(shape), tokenizer, tmp_path / "model", card="# a model\n")
    return tmp_path / "model"


def set_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change({name: tensor.clone() for name, tensor in load_file(file).items()}), file)


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"x": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no readable config.json; give the Hugging Face folder"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
    "list for a config": (lambda f: (f / "config.json").write_text("[]"), "should hold a JSON object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "cut short": (truncate, "cannot be read as safetensors .*cut short"),
    "pickle": (only_pickle, "pytorch_model.bin cannot be read as weights alone.*nothing in it was run.*convert it"),
    "missing shard": (missing_shard, "lacks model-00001-of-00002.safetensors, named in"),
    "another model": (lambda f: set_config(f, model_type="gpt2"), "a model of type 'gpt2'; the known ones are 'bert'"),
    "activation": (lambda f: set_config(f, hidden_act="silu"), "hidden_act.*'gelu'"),
    "positions": (lambda f: set_config(f, position_embedding_type="relative_key"), "only 'absolute' is supported"),
    "decoder": (lambda f: set_config(f, is_decoder=True), "is_decoder True; only False"),
    "no size": (lambda f: set_config(f, hidden_size=None), "config.json: hidden_size is missing"),
    "odd heads": (lambda f: set_config(f, num_attention_heads=3), "hidden_size 8 is not a multiple of heads 3"),
    "wider": (
        lambda f: set_config(f, hidden_size=16),
        r"asks for an encoder of 3,424 weights and more, but its files hold 1,578",
    ),
    "deeper": (
        lambda f: set_config(f, num_hidden_layers=3),
        "asks for an encoder of 1,712 weights and more, but its files hold 1,578",
    ),
    "shallower": (
        lambda f: set_config(f, num_hidden_layers=1),
        r"holds bert.encoder.layer.1.*\(1 layers\) has no place",
    ),
    "larger tokenizer": (
        lambda f: write_tokenizer(f / "tokenizer.json", [*NAMES, "d"]),
        "has 9 tokens but the model has room for 8",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_a_sentence(name: str, folder: Path) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder"):
        load_model(tmp_path / "nowhere")


def test_old_names_and_half_precision(folder: Path) -> None:
    """LayerNorms as gamma and beta, no "bert." before the encoder, a tied decoder and its bias kept, float16."""
    before = load_model(folder).state_dict()

    def old(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t.half()
            for name, t in tensors.items()
        }
        renamed["cls.predictions.decoder.weight"] = renamed["bert.embeddings.word_embeddings.weight"].clone()
        renamed["cls.predictions.decoder.bias"] = renamed["cls.predictions.bias"].clone()
        renamed["bert.embeddings.position_ids"] = torch.arange(12)[None]
        return {name.removeprefix("bert."): tensor for name, tensor in renamed.items()}

    change_tensors(folder, old)
    model, report = read_model(folder)
    assert report.initialised == ()
    assert report.unused.keys() == {"embeddings.position_ids"}
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, before[name].half().float(), atol=0, rtol=0)


def test_missing_heads_are_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_tensors(folder, lambda t: {name: tensor for name, tensor in t.items() if not name.startswith("cls.seq")})
    load_model(folder)
    assert "nsp_head: drawn at random" in " ".join(capsys.readouterr().err.split())


def test_tokenizer_must_fit_when_writing(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    larger = write_tokenizer(tmp_path / "larger.json", [*NAMES, "d"])
    before = (folder / "config.json").read_bytes()
    with pytest.raises(ModelError, match="has 9 tokens"):
        save_model(model, larger, folder)
    assert (folder / "config.json").read_bytes() == before


def test_folder_is_complete(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "checksums.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (folder / "README.md").read_text() == "# a model\n"
    again = folder.parent / "again"
    save_model(load_model(folder), folder, again)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_card_says_what_is_known() -> None:
    figures = {
        "language": "en",
        "size": "mini",
        "parameters": 5_529_090,
        "tokens": 1_000_000,
        "seconds": 90.0,
        "valid": {"mlm_loss": 5.4321, "mlm_accuracy": 0.2},
        "unigram_entropy": 6.7,
        "samples": [{"text": "a [MASK] | b", "truth": "c", "predictions": [["c", 0.5], ["d", 0.25]]}],
    }
    card = model_card("run", figures)
    assert card.startswith("---\nlanguage: en\n")
    for fact in ("5,529,090", "1,000,000 tokens in 1.5 minutes", "5.432 nats", "20.0%", "c (50%), d (25%)"):
        assert fact in card
    assert "a [MASK] \\| b" in card
    assert "next-sentence" not in card
    assert "# bare" in model_card("bare", {})
