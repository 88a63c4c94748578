"""A short real translation run: a made-up language is learned, its folder loads elsewhere, bad input is told."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from bertwright.cli.main import main
from bertwright.errors import ConfigError, CorpusError, UsageError
from bertwright.hub.encoder_folder import read_model, save_model
from bertwright.inference.base import Predictions
from bertwright.inference.translation import TranslationPredictor
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.task_setup.by_task import set_up
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

WORDS = {"one": "eins", "two": "zwei", "red": "rot", "blue": "blau", "dog": "Hund", "cat": "Katze", "runs": "rennt"}
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 8},
    "optimizer": {"learning_rate": 3e-3},
    "batches": {"rows": 32},
    "transfer": {"dropout": 0.0},
    "translate": {"beams": 2},
}


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of two to five words, and the same words of the other language the other way round."""
    random = np.random.default_rng(seed)
    chosen = [random.choice(list(WORDS), size=random.integers(2, 6)).tolist() for _ in range(count)]
    return [(" ".join(words), " ".join(WORDS[word] for word in reversed(words))) for words in chosen]


def write_pairs(folder: Path, name: str, rows: list[tuple[str, str]]) -> Path:
    for side, suffix in enumerate(("en", "de")):
        (folder / f"{name}.{suffix}").write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
    return Path(f"{folder}/{name}.en,{folder}/{name}.de")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder: what it learns, it learns here."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *WORDS.values()]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    tokens = load_tokenizer(folder).vocab_size
    shape = named_size("tiny", vocab_size=tokens, hidden_size=48, heads=2, intermediate_size=96, max_positions=32)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def files(folder: Path, count: int = 1500) -> dict[str, Path]:
    sizes = {"train": count, "dev": 40, "test": 40}
    return {name: write_pairs(folder, name, pairs(size, seed)) for seed, (name, size) in enumerate(sizes.items())}


def test_translate_learns_and_its_folder_is_whole(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, run = files(tmp_path), tmp_path / "run"
    figures = finetune("translate", model, **given, out=run, settings=QUICK)
    assert figures["dev"]["bleu"] > 80
    assert figures["test"]["chrf"] > 80
    assert set(figures["dev"]) == {"bleu", "chrf", "loss", "perplexity"}
    assert "case:mixed" in figures["signatures"]["bleu"]
    for name in ("config.toml", "metrics.jsonl", "model/README.md", "model/generation_config.json"):
        assert (run / name).is_file(), name
    assert json.loads((run / "result.json").read_text()) == figures
    content = json.loads((run / "manifest.json").read_text())["files"]
    assert {"train.source", "train.target", "dev.source", "dev.target", "test.source", "test.target"} == set(content)
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "nrefs:1" in report
    assert evaluate("translate", run / "model", given["test"]) == figures["test"]
    with pytest.raises(UsageError, match="translate"):
        evaluate("translate", model, given["test"])
    theirs = transformers.EncoderDecoderModel.from_pretrained(run / "model").eval()
    words = transformers.AutoTokenizer.from_pretrained(run / "model")
    texts = [source for source, _ in pairs(12, 9)]
    inputs = words(texts, return_tensors="pt", padding=True)
    written = theirs.generate(inputs.input_ids, attention_mask=inputs.attention_mask)
    answers = predict(run / "model", texts, output=tmp_path / "answers.jsonl")
    assert [line["translation"] for line in answers] == words.batch_decode(written, skip_special_tokens=True)
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"red dog\n\nblue cat runs\n")))
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"target": "x", "source": text}) + "\n" for text in texts))
    read = predict(run / "model", input=tmp_path / "asked.jsonl", output=tmp_path / "answers.jsonl")
    assert [one["translation"] for one in read] == [one["translation"] for one in answers]
    with pytest.raises(UsageError, match=r"'en'.*target, source"):
        predict(run / "model", input=tmp_path / "asked.jsonl", text_column="en", output=tmp_path / "answers.jsonl")
    assert main(["predict", "--model", str(run / "model"), "--input", "-"]) == 0
    assert capsys.readouterr().out.split("\n")[1] == "", "line n of the output belongs to line n of the input"
    one_chunk, printed = TranslationPredictor.predict, list[str]()

    def predicted(self: TranslationPredictor, questions: Sequence[tuple[str, ...]]) -> Predictions:
        printed.append(capsys.readouterr().out)
        return one_chunk(self, questions)

    monkeypatch.setattr(TranslationPredictor, "chunk", 1)
    monkeypatch.setattr(TranslationPredictor, "predict", predicted)
    assert main(["predict", "--model", str(run / "model"), "--input", str(tmp_path / "asked.jsonl")]) == 0
    printed = [*printed[1:], capsys.readouterr().out]
    assert printed == [f"{one['translation']}\n" for one in answers], "each is printed before the next is made"


def test_where_the_decoder_starts(model: Path, tmp_path: Path) -> None:
    """Trained for one step at next to no rate, it is what it started from; the same seed gives the same weights."""
    given, before = files(tmp_path, 40), read_model(model)[0].state_dict()
    word = "decoder.bert.embeddings.word_embeddings.weight"
    feed = "decoder.bert.encoder.layer.0.intermediate.dense.weight"
    cross = "decoder.bert.encoder.layer.0.crossattention.self.query.weight"
    quick = {**QUICK, "schedule": {"epochs": 0.1}, "optimizer": {"learning_rate": 1e-12}, "watch": {"mistakes": 0}}
    weights = {}
    for start, layers in (("both", 1), ("encoder", None), ("neither", None)):
        writing = {"start": start, "beams": 1} | ({"decoder_layers": layers} if layers else {})
        finetune(
            "translate", model, given["train"], given["dev"], tmp_path / start, settings={**quick, "translate": writing}
        )
        folder = transformers.EncoderDecoderModel.from_pretrained(tmp_path / start / "model")
        weights[start] = folder.state_dict()
        assert folder.config.decoder.num_hidden_layers == (layers or 2)
    same = {
        start: [
            torch.allclose(theirs[name], before[ours], atol=1e-6)
            for name, ours in (
                (word, "embeddings.words.weight"),
                (feed, "blocks.1.inner.weight"),
                ("encoder.embeddings.word_embeddings.weight", "embeddings.words.weight"),
            )
        ]
        for start, theirs in weights.items()
    }
    assert same == {"both": [True, True, True], "encoder": [False, False, True], "neither": [False, False, False]}
    assert weights["both"][cross].abs().max() > 0


def test_other_ways_to_give_pairs(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, 20)
    rows = [("", "leer"), *pairs(30, 3)]
    (tmp_path / "dev.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in [("en", "de"), *rows]), encoding="utf-8")
    call = ["finetune", "translate", "--model", str(model), "--train", str(tmp_path / "train"), "--source", "en"]
    call += ["--target", "de", "--dev", str(tmp_path / "dev.tsv"), "--out", str(tmp_path / "run"), "--epochs", "1"]
    assert main(call) == 0
    assert re.search("30 pairs.*1 with an empty", capsys.readouterr().err)
    files_named = {name: Path(f"{tmp_path}/train.en,{tmp_path}/train.de") for name in ("train", "dev")}
    setup = set_up(resolve_finetune("translate", {"schedule": {"minutes": 3}}), model, files_named)
    schedule = setup.loader(0).schedule
    assert (schedule.unit, schedule.amount) == ("minutes", 3)


def test_what_does_not_fit_is_one_sentence(model: Path, tmp_path: Path) -> None:
    given = files(tmp_path, 20)
    (tmp_path / "short.de").write_text("eins\n")
    uneven = Path(f"{tmp_path}/train.en,{tmp_path}/short.de")
    with pytest.raises(CorpusError, match=r"train\.en.*20 lines.*short\.de 1"):
        finetune("translate", model, uneven, given["dev"], tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.de, train\.en.*--source de --target en"):
        finetune("translate", model, tmp_path / "train", given["dev"], tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.en"):
        finetune("translate", model, tmp_path / "train.en", given["dev"], tmp_path / "run")
    with pytest.raises(CorpusError, match=r"gone\.de"):
        finetune("translate", model, Path(f"{tmp_path}/train.en,{tmp_path}/gone.de"), given["dev"], tmp_path / "run")
    for settings, message in (
        ({"transfer": {"layer_decay": 0.9}}, r"transfer\.layer_decay: translate knows dropout, freeze alone"),
        ({"transfer": {"freeze": 3}}, "has 2 blocks, not 3 to freeze"),
        ({"watch": {"metric": "accuracy"}}, r"translate has no figure 'accuracy'; known: bleu, chrf, loss"),
        ({"engine": {"compile": True}}, "steps of translate do not run compiled"),
        ({"columns": {"text": "a"}}, "calls its two columns --source and --target"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune("translate", model, given["train"], given["dev"], tmp_path / "run", settings=settings)
    with pytest.raises(ConfigError, match="translate"):
        finetune("classify", model, given["train"], given["dev"], tmp_path / "run", settings={"translate": {}})
    assert not (tmp_path / "run").exists()
