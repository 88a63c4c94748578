"""Short real fine-tuning runs: each task learns, its folder is whole and loads elsewhere, bad input is one sentence."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from bertwright.cli.main import main
from bertwright.errors import ConfigError, CorpusError, OutOfMemoryError, OutputExistsError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.step import Engine
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

GOOD, BAD = ["fine", "great", "lovely"], ["poor", "dull", "awful"]
THINGS = ["film", "song", "book", "play", "meal", "walk"]
NAMES, PLACES = ["Anna", "Bert", "Carl Dorn", "Emma"], ["Rome", "Oslo", "New Delhi", "Paris"]
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 6},
    "optimizer": {"learning_rate": 2e-3},
    "batches": {"rows": 16},
    "transfer": {"dropout": 0.0},
}


def sentences(count: int, seed: int) -> list[tuple[str, str, int]]:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        good = int(random.integers(2))
        word, thing = random.choice(GOOD if good else BAD), random.choice(THINGS)
        rows.append((f"the {thing} was {word}" + " indeed" * int(random.integers(6)), str(thing), good))
    return rows


def tagged(count: int, seed: int) -> str:
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        name, place = str(random.choice(NAMES)).split(), str(random.choice(PLACES)).split()
        words = [(w, f"{'B' if not i else 'I'}-PER") for i, w in enumerate(name)]
        words += [("lives", "O"), ("in", "O")] + [(w, f"{'B' if not i else 'I'}-LOC") for i, w in enumerate(place)]
        lines.append("\n".join(f"{word} {tag}" for word, tag in [*words, (".", "O")]))
    return "\n\n".join(lines) + "\n"


def write_tokenizer(folder: Path, words: list[str]) -> None:
    names = [*dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *"abcdefghijklmnopqrstuvwxyz"])]
    vocab = {name: i for i, name in enumerate(names)} | {f"##{c}": len(names) + i for i, c in enumerate("aeiounsrt")}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["bert", "modern"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of two blocks: what it learns, it learns here."""
    folder = tmp_path_factory.mktemp("model")
    texts = [row[0] for row in sentences(200, 0)] + tagged(100, 0).split("\n")
    write_tokenizer(folder, sorted({word.lower() for text in texts for word in text.split()}))
    torch.manual_seed(0)
    tokens = load_tokenizer(folder).vocab_size
    shape = named_size("tiny", architecture=request.param, vocab_size=tokens, hidden_size=32, heads=2, max_positions=64)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def write_table(path: Path, header: str, lines: list[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def classes(folder: Path, count: int = 300) -> dict[str, Path]:
    return {
        split: write_table(
            folder / f"{split}.tsv",
            "sentence\tlabel",
            [f"{text}\t{('bad', 'good')[label]}" for text, _, label in sentences(size, seed)],
        )
        for seed, (split, size) in enumerate({"train": count, "dev": 60, "test": 60}.items())
    }


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_classify_learns_and_its_folder_is_whole(model: Path, tmp_path: Path) -> None:
    figures = finetune("classify", model, **classes(tmp_path), out=tmp_path / "run", settings=QUICK)
    assert figures["dev"]["accuracy"] > 0.95
    assert figures["test"]["accuracy"] > 0.9
    assert figures["labels"] == ["bad", "good"]
    for name in (
        "config.toml",
        "manifest.json",
        "result.json",
        "report.html",
        "model/README.md",
        "model/tokenizer.json",
    ):
        assert (tmp_path / "run" / name).is_file(), name
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == figures
    lines = metrics(tmp_path / "run")
    assert {"step", "tokens", "seconds", "loss", "classify_loss", "learning_rate", "tokens_per_second", "mfu"} <= set(
        lines[0]
    )
    assert len([line for line in lines if "valid" in line]) == 6
    assert evaluate("classify", tmp_path / "run" / "model", tmp_path / "test.tsv") == figures["test"]
    with pytest.raises(UsageError, match=r"classify.*tag"):
        evaluate("tag", tmp_path / "run" / "model", tmp_path / "test.tsv")
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "label (rows)" in report
    texts = [text for text, _, _ in sentences(60, 1)]
    answers = predict(tmp_path / "run" / "model", texts, output=tmp_path / "answers.jsonl")
    ask = transformers.pipeline("text-classification", model=str(tmp_path / "run" / "model"), device="cpu")
    for ours, theirs in zip(answers, ask(texts), strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probability"] == pytest.approx(theirs["score"], abs=1e-5)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"text": text, "id": 7}) + "\n" for text in texts))
    read = predict(tmp_path / "run" / "model", input=tmp_path / "asked.jsonl", output=tmp_path / "answers.jsonl")
    assert [one["text"] for one in read] == texts
    assert [one["label"] for one in read] == [one["label"] for one in answers]


def test_pairs_need_both_texts(model: Path, tmp_path: Path) -> None:
    """The second text alone says which class it is."""
    lines = {}
    for seed, (split, size) in enumerate({"train": 400, "dev": 60}.items()):
        lines[split] = write_table(
            tmp_path / f"{split}.csv",
            "sentence1,sentence2,label",
            [f"the {thing},{text},{label}" for text, thing, label in sentences(size, seed)],
        )
    figures = finetune("classify", model, **lines, out=tmp_path / "run", settings=QUICK)
    assert figures["dev"]["accuracy"] > 0.9
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"train `train\.csv` .*400 .*dev `dev\.csv` .*60 ", card)
    assert "adamw" in card
    assert "dropout 0.0" in card
    single = write_table(tmp_path / "single.csv", "sentence,label", ["the film was fine,1", "the film was dull,0"])
    with pytest.raises(UsageError, match=r"pairs.*single\.csv"):
        evaluate("classify", tmp_path / "run" / "model", single)
    (tmp_path / "pairs.txt").write_text("the film was fine\tthe film was fine\n")
    answers = predict(tmp_path / "run" / "model", input=tmp_path / "pairs.txt", output=tmp_path / "answers.jsonl")
    assert set(answers[0]) == {"first", "second", "label", "probability", "probabilities"}
    saved, out = tmp_path / "run" / "model", tmp_path / "answers.jsonl"
    labelled = predict(saved, input=lines["dev"], output=out)
    assert [one["second"] for one in labelled] == [text for text, _, _ in sentences(60, 1)]
    assert sum(one["label"] == str(row[2]) for one, row in zip(labelled, sentences(60, 1), strict=True)) > 54
    summary = predict(saved, input=lines["dev"], output=out, text_column="sentence2", pair_column="sentence1")
    assert summary[0]["second"] == labelled[0]["first"]
    assert predict(saved, ["the film was fine"] * 2, output=out) == answers
    with pytest.raises(UsageError, match=r"pairs.*single"):
        predict(saved, ["the film was fine"], output=out)


def test_a_folder_reads_rows_as_long_as_in_training(model: Path, tmp_path: Path) -> None:
    """What decides stands past the eighth token: who reads on judges otherwise than result.json says."""
    rows = sentences(60, seed=3)
    file = write_table(tmp_path / "a.tsv", "text\tlabel", [f"{'the ' * 7}{text}\t{label}" for text, _, label in rows])
    settings = {**QUICK, "batches": {"rows": 16, "max_length": 9}, "schedule": {"epochs": 1}}
    figures = finetune("classify", model, file, file, out=tmp_path / "run", settings=settings)
    again = evaluate("classify", tmp_path / "run" / "model", file)
    assert again["loss"] == pytest.approx(figures["dev"]["loss"], abs=1e-6)


def test_regress_learns_by_the_mean_of_a_row_where_the_folder_says_so(model: Path, tmp_path: Path) -> None:
    """BERT has no such setting and reads [CLS], here and in transformers."""
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"classifier_pooling": "mean"}))
    files = {
        split: write_table(
            tmp_path / f"{split}.tsv",
            "sentence\tscore",
            [f"{text}\t{2 + label + text.count('indeed') / 5}" for text, _, label in sentences(size, seed)],
        )
        for seed, (split, size) in enumerate({"train": 300, "dev": 60}.items())
    }
    settings = {**QUICK, "schedule": {"epochs": 8}}
    figures = finetune("regress", tmp_path / "model", **files, out=tmp_path / "run", settings=settings)
    assert figures["dev"]["correlation"] > 0.9
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    answer = predict(tmp_path / "run" / "model", ["the film was fine"], output=tmp_path / "a.jsonl")[0]
    with torch.inference_mode():
        expected = float(theirs(**words("the film was fine", return_tensors="pt")).logits)
    assert answer["score"] == pytest.approx(expected, abs=1e-5)
    assert theirs.config.problem_type == "regression"
    assert config["model_type"] == "bert" or theirs.config.classifier_pooling == "mean"


def test_tag_learns(model: Path, tmp_path: Path) -> None:
    files = {}
    for seed, (split, size) in enumerate({"train": 300, "dev": 50}.items()):
        files[split] = tmp_path / f"{split}.conll"
        files[split].write_text(tagged(size, seed), encoding="utf-8")
    figures = finetune("tag", model, **files, out=tmp_path / "run", settings=QUICK)
    assert figures["dev"]["f1"] > 0.95
    assert figures["labels"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    text = "Carl Dorn lives in New Delhi."
    answers = predict(tmp_path / "run" / "model", [text, ""], output=tmp_path / "answers.jsonl")
    found = [(one["type"], text[one["start"] : one["end"]], one["text"]) for one in answers[0]["entities"]]
    assert found == [("PER", "Carl Dorn", "Carl Dorn"), ("LOC", "New Delhi", "New Delhi")]
    assert answers[1] == {"text": "", "entities": []}
    read = predict(tmp_path / "run" / "model", input=files["dev"], output=tmp_path / "answers.jsonl")
    assert [one["text"] for one in read] == [
        " ".join(line.split()[0] for line in sentence.splitlines()) for sentence in tagged(50, 1).split("\n\n")
    ]
    assert "entities by type" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_model_and_seeds_have_a_spread(model: Path, tmp_path: Path) -> None:
    files, settings = classes(tmp_path, 64), {**QUICK, "schedule": {"epochs": 1}, "optimizer": {"learning_rate": 2e-4}}
    once = finetune("classify", model, **files, out=tmp_path / "one", settings=settings)
    both = finetune("classify", model, **files, out=tmp_path / "two", num_seeds=2, settings=settings)
    assert both["seeds"][0]["dev"] == once["dev"]
    assert both["seeds"][0]["dev"]["loss"] != both["seeds"][1]["dev"]["loss"]
    assert both["spread"]["dev"]["loss"] > 0
    assert (tmp_path / "two" / "seeds" / "1" / "metrics.jsonl").is_file()
    assert metrics(tmp_path / "two") == metrics(tmp_path / "two" / "seeds" / str(both["seed"]))


def test_frozen_blocks_stay_and_patience_ends(model: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "schedule": {"epochs": 30}, "watch": {"patience": 2}}
    settings["transfer"] = {"freeze": 1, "layer_decay": 0.5}
    figures = finetune("classify", model, **classes(tmp_path, 100), out=tmp_path / "run", settings=settings)
    assert figures["epochs"] < 30
    before = transformers.AutoModel.from_pretrained(model).state_dict()
    after = transformers.AutoModel.from_pretrained(tmp_path / "run" / "model").state_dict()
    changed = {name for name, weights in before.items() if name in after and not torch.equal(weights, after[name])}
    first, second = (
        ("layer.0.", "layer.1.") if "encoder.layer.0.output.dense.weight" in before else ("layers.0.", "layers.1.")
    )
    assert not any(first in name or "embeddings" in name for name in changed)
    assert any(second in name for name in changed)


@pytest.mark.parametrize(
    ("split", "text", "message"),
    [
        ("dev", "sentence\tlabel\nfine\tgreat\n", r"dev.tsv row 1.*'great'"),
        ("train", "sentence\tlabel\nfine\tgood\n\t bad\nx\tbad\n", r"1 rows.*sentence"),
        ("dev", "text\tlabel\nfine\tgood\n", "'sentence'"),
        ("train", "sentence\tlabel\nfine\tgood\npoor\tgood\n", r"every row.*'good'"),
        ("train", "label\tsentence\na long text\tgood\nanother text\tgood\nthird one\tbad\n", "columns swapped"),
    ],
)
def test_bad_tables_are_one_sentence(model: Path, tmp_path: Path, split: str, text: str, message: str) -> None:
    files = classes(tmp_path, 20)
    files[split].write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        finetune("classify", model, **files, out=tmp_path / "run", settings=QUICK)
    assert not (tmp_path / "run").exists()


def test_scores_that_are_no_numbers(model: Path, tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.tsv", "score\tsentence", ["fine\t1.0", "poor\t2.0"])
    with pytest.raises(CorpusError, match=r"row 1.*'fine'.*score"):
        finetune("regress", model, file, file, tmp_path / "run", settings=QUICK)


def test_a_model_that_always_says_the_same_is_remarked_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = QUICK | {"schedule": {"epochs": 2}, "head": {"class_weights": {"bad": 0.0, "good": 1.0}}}
    finetune("classify", model, **classes(tmp_path), out=tmp_path / "run", settings=settings)
    output = " ".join(capsys.readouterr().err.split())
    warning = "every prediction is 'good'"
    assert f"dev: {warning}" in output
    assert f"test: {warning}" in output
    assert warning in html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    evaluate("classify", tmp_path / "run" / "model", tmp_path / "dev.tsv")
    assert warning in " ".join(capsys.readouterr().err.split())


def test_calls_that_do_not_fit(model: Path, tmp_path: Path) -> None:
    files = classes(tmp_path, 20)
    with pytest.raises(UsageError, match=r"'sort'.*classify"):
        finetune("sort", model, **files, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"watch.metric.*'pearson'"):
        finetune("classify", model, **files, out=tmp_path / "run", settings={"watch": {"metric": "pearson"}})
    with pytest.raises(ConfigError, match=r"schedule\.epochs"):
        finetune("classify", model, **files, out=tmp_path / "run", settings={"schedule": {"epoch": 1}})
    with pytest.raises(ConfigError, match=r"2 blocks.*3"):
        finetune("classify", model, **files, out=tmp_path / "run", settings={"transfer": {"freeze": 3}})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(OutputExistsError):
        finetune("classify", model, **files, out=tmp_path / "taken")


def test_at_the_terminal(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = classes(tmp_path, 40)
    words = ["finetune", "classify", "--model", str(model), "--train", str(files["train"]), "--dev", str(files["dev"])]
    call = [*words, "--out", str(tmp_path / "run"), "--epochs", "1", "--optimizer.weight-decay", "0.1"]
    assert main(call) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["predict", "--model", str(tmp_path / "run" / "model"), "the film was fine", "a poor book"]) == 0
    assert "label" in capsys.readouterr().out
    evaluation = ["evaluate", "classify", "--model", str(tmp_path / "run" / "model"), "--data", str(files["dev"])]
    assert main([*evaluation, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == evaluate("classify", tmp_path / "run" / "model", files["dev"])
    assert main(evaluation) == 0
    assert "label (rows)" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("the film was fine\n\na poor book\n"))
    predicting = [
        "predict",
        "--model",
        str(tmp_path / "run" / "model"),
        "--input",
        "-",
        "--output",
        str(tmp_path / "a.jsonl"),
    ]
    assert main(predicting) == 0
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 3
    assert main(call) == 1
    assert "already exists" in capsys.readouterr().err
    assert main(["predict", "--model", str(tmp_path / "run" / "model")]) == 2
    assert main(["finetune", "--help"]) == 0
    assert "bertwright finetune classify --model" in capsys.readouterr().out


def test_memory_that_runs_out_is_told_with_what_takes_less(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backward(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Engine, "backward", backward)
    files = classes(tmp_path, 32)
    with pytest.raises(OutOfMemoryError, match=r"16 examples.*--engine\.accumulation auto"):
        finetune("classify", model, files["train"], files["dev"], tmp_path / "run", settings=QUICK)
    parts = {**QUICK, "engine": {"accumulation": 3}}
    with pytest.raises(OutOfMemoryError, match=r"--engine\.accumulation 6"):
        finetune("classify", model, files["train"], files["dev"], tmp_path / "parts", settings=parts)
