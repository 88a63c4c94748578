"""Models and tokenizers of strangers: a small whole file of each kind, and how it is read until the model answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from kind import TEXTS, Kind, model_in, tokenizer_in
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from bertwright.files import write_json
from bertwright.hub.crf_file import crf_arrays
from bertwright.hub.encoder_decoder_folder import save_encoder_decoder
from bertwright.hub.encoder_folder import read_model
from bertwright.inference.predictors import open_predictor
from bertwright.model.config import BertConfig
from bertwright.model.crf_decode import CRFDecoder
from bertwright.model.decoder import Decoder
from bertwright.model.encoder_decoder import EncoderDecoder, decoder_config
from bertwright.model.generate import SearchRules
from bertwright.reports.model_table import show_model
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer
from bertwright.verbs.export import export
from bertwright.verbs.predict import predict
from bertwright.verbs.verify import verify

SENTENCES = ["The dog sat.", "", "x" * 3000, "It ran to the warm house!", "你好"]


def _of_model(kind: str, file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model_in(folder, kind)
        return folder / "model" / file

    return make


def _fine_tuned(part: str, file: str) -> Callable[[Path], Path]:
    """Return what makes a model with a head of two outputs, about rows or about tokens, the latter with a CRF."""

    def make(folder: Path) -> Path:
        model_in(folder, "bert")
        model = folder / "model"
        config = json.loads((model / "config.json").read_text())
        labels = {"0": "O", "1": "I-PER"}
        write_json(model / "config.json", config | {"architectures": [f"BertFor{part}"], "id2label": labels})
        head = {"classifier.weight": torch.zeros(2, 8), "classifier.bias": torch.zeros(2)}
        save_file(load_file(model / "model.safetensors") | head, model / "model.safetensors")
        if part == "TokenClassification":
            none, may = np.zeros(2), np.ones(2, dtype=bool)
            chain = CRFDecoder((none, np.zeros((2, 2)), none), (may, np.ones((2, 2), dtype=bool), may))
            save_arrays(crf_arrays(chain), model / "crf.safetensors")
        return model / file

    return make


def _sharded_index(folder: Path) -> Path:
    model_in(folder, "bert")
    (folder / "model" / "model.safetensors").rename(folder / "model" / "model-00001-of-00001.safetensors")
    names = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    write_json(folder / "model" / "model.safetensors.index.json", index)
    return folder / "model" / "model.safetensors.index.json"


def _sentence_model(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model_in(folder, "bert")
        model, kinds = folder / "model", ("Transformer", "Pooling")
        paths = {"Transformer": "", "Pooling": "1_Pooling"}
        modules = [
            {"idx": n, "path": paths[name], "type": f"sentence_transformers.models.{name}"}
            for n, name in enumerate(kinds)
        ]
        write_json(model / "modules.json", modules)
        (model / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
        write_json(model / "1_Pooling" / "config.json", pooling)
        write_json(model / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": False})
        return model / file

    return make


def _translator(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model_in(folder, "bert")
        encoder, _ = read_model(folder / "model")
        assert isinstance(encoder.config, BertConfig)
        decoder = Decoder(decoder_config(encoder.config, layers=1))
        rules = SearchRules(2, 3, max_length=6, beams=2)
        save_encoder_decoder(EncoderDecoder(encoder, decoder), folder / "words", folder / "translator", rules=rules)
        return folder / "translator" / file

    return make


def _pickled(*, legacy: bool, sharded: bool = False) -> Callable[[Path], Path]:
    """Return what makes a model with its weights in pytorch_model.bin, of torch since 1.6 or before, or in two."""

    def make(folder: Path) -> Path:
        model_in(folder, "bert")
        model = folder / "model"
        tensors = load_file(model / "model.safetensors")
        (model / "model.safetensors").unlink()
        name = "part-1.bin" if sharded else "pytorch_model.bin"
        torch.save(tensors, model / name, _use_new_zipfile_serialization=not legacy)
        if sharded:
            write_json(model / "pytorch_model.bin.index.json", {"weight_map": dict.fromkeys(tensors, name)})
            return model / "pytorch_model.bin.index.json"
        return model / name

    return make


def _old_config(folder: Path) -> Path:
    model_in(folder, "bert")
    file = folder / "model" / "config.json"
    values = json.loads(file.read_text())
    write_json(file, {name: one for name, one in values.items() if name not in ("model_type", "architectures")})
    return file


def _vocab(name: str) -> Callable[[Path], Path]:
    """Return what makes a vocab.txt, with a tokenizer_config.json and an added_tokens.json."""

    def make(folder: Path) -> Path:
        vocab = tokenizer_in(folder).with_name("vocab.txt")
        (folder / "tokenizer.json").unlink()
        write_json(
            folder / "tokenizer_config.json", {"do_lower_case": False, "strip_accents": None, "unk_token": "[UNK]"}
        )
        write_json(folder / "added_tokens.json", {"[E1]": len(vocab.read_text().splitlines())})
        return folder / name

    return make


def _tokenizer_of(kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        train_tokenizer([TEXTS], folder=folder, vocab_size=512, kind=kind)
        values = json.loads((folder / "tokenizer.json").read_text())
        values["padding"] = {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]",
        }  # fmt: skip
        values["truncation"] = {"max_length": 9, "strategy": "LongestFirst", "stride": 1, "direction": "Right"}
        write_json(folder / "tokenizer.json", values)
        return folder / "tokenizer.json"

    return make


def _with_prompts(folder: Path) -> Path:
    _sentence_model("modules.json")(folder)
    content = {"prompts": {"query": "The cat: ", "passage": ""}, "default_prompt_name": "query"}
    write_json(folder / "model" / "config_sentence_transformers.json", content)
    return folder / "model" / "config_sentence_transformers.json"


def _exported(folder: Path) -> Path:
    _fine_tuned("SequenceClassification", "config.json")(folder)
    export(folder / "model", folder / "onnx")
    return folder / "onnx" / "onnx.json"


def _read_model(folder: Path) -> None:
    show_model(folder / "model")
    predict(folder / "model", ["The [MASK] sat."], precision="fp32")


def _read_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer.tokens) == tokenizer.vocab_size
    encoder = BulkEncoder(tokenizer)
    encoder.prove(SENTENCES)
    ids, counts = encoder.encode(SENTENCES)
    assert len(ids) == counts.sum()
    tokenizer.decode(ids.tolist())


def _asked(name: str) -> Callable[[Path], None]:
    return lambda folder: forget(predict(folder / name, ["The cat sat.", "It ran"], precision="fp32"))


def _alike(folder: Path) -> None:
    open_predictor(folder / "model").predict([("The cat sat.", "A dog ran.")])


def _translated(folder: Path) -> None:
    open_predictor(folder / "translator").predict([("The cat sat.",), ("",)])


def forget(_: object) -> None:
    """Forget a result."""


ROWS, TOKENS = "SequenceClassification", "TokenClassification"
MODELS: dict[str, Kind] = {
    "BERT config.json": Kind(_of_model("bert", "config.json"), _read_model, is_json=True),
    "ModernBERT config.json": Kind(_of_model("modern", "config.json"), _read_model, is_json=True),
    "BERT weights": Kind(_of_model("bert", "model.safetensors"), _read_model),
    "ModernBERT weights": Kind(_of_model("modern", "model.safetensors"), _read_model),
    "index of weights": Kind(_sharded_index, _read_model, is_json=True),
    "checksums.json": Kind(
        _of_model("modern", "checksums.json"), lambda folder: forget(verify(folder / "model")), is_json=True
    ),
    "fine-tuned config.json": Kind(_fine_tuned(ROWS, "config.json"), _asked("model"), is_json=True),
    "fine-tuned weights": Kind(_fine_tuned(ROWS, "model.safetensors"), _asked("model")),
    "tagger's config.json": Kind(_fine_tuned(TOKENS, "config.json"), _asked("model"), is_json=True),
    "tagger's crf.safetensors": Kind(_fine_tuned(TOKENS, "crf.safetensors"), _asked("model")),
    "modules.json of vectors": Kind(_sentence_model("modules.json"), _alike, is_json=True),
    "pooling of vectors": Kind(_sentence_model("1_Pooling/config.json"), _alike, is_json=True),
    "length of vectors": Kind(_sentence_model("sentence_bert_config.json"), _alike, is_json=True),
    "translator's config.json": Kind(_translator("config.json"), _translated, is_json=True),
    "translator's generation_config.json": Kind(_translator("generation_config.json"), _translated, is_json=True),
    "translator's weights": Kind(_translator("model.safetensors"), _translated),
    "onnx.json": Kind(_exported, _asked("onnx"), is_json=True),
    "pytorch_model.bin": Kind(_pickled(legacy=False), _read_model),
    "pytorch_model.bin before 1.6": Kind(_pickled(legacy=True), _read_model),
    "index of pytorch_model.bin": Kind(_pickled(legacy=False, sharded=True), _read_model, is_json=True),
    "config.json without model_type": Kind(_old_config, _read_model, is_json=True),
    "prompts of vectors": Kind(_with_prompts, _alike, is_json=True),
    "tokenizer.json": Kind(tokenizer_in, _read_tokenizer, is_json=True),
    "tokenizer.json, BPE": Kind(_tokenizer_of("bpe"), _read_tokenizer, is_json=True),
    "tokenizer.json, Unigram": Kind(_tokenizer_of("unigram"), _read_tokenizer, is_json=True),
    "vocab.txt": Kind(_vocab("vocab.txt"), _read_tokenizer),
    "tokenizer_config.json of vocab.txt": Kind(_vocab("tokenizer_config.json"), _read_tokenizer, is_json=True),
    "added_tokens.json": Kind(_vocab("added_tokens.json"), _read_tokenizer, is_json=True),
    "tokenizer_config.json": Kind(
        lambda folder: tokenizer_in(folder).with_name("tokenizer_config.json"), _read_tokenizer, is_json=True
    ),
}
