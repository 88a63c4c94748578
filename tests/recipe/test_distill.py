"""A student learns a task, and general text, from a teacher: short runs that a user could have made."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

import bertwright.train.loop as loop
from bertwright.cli.main import main
from bertwright.errors import ConfigError, Interrupted, ModelError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.distill import distill
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict
from bertwright.verbs.prepare import prepare

TOPICS = {"music": ["song", "band"], "food": ["meal", "soup"], "sport": ["goal", "race"]}
OTHERS = ["the", "a", "was", "and", "then", "came"]
QUICK: dict[str, Any] = {
    "precision": "fp32", "schedule": {"epochs": 4}, "optimizer": {"learning_rate": 3e-3}, "batches": {"rows": 16},
}  # fmt: skip
SMALL: dict[str, Any] = {"layers": 1, "width": 16}


def write_model(folder: Path, words: list[str]) -> Path:
    """Write an untrained BERT of two blocks that knows some words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(names[:5])
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=32, heads=4, intermediate_size=64, max_positions=32,
                       initializer_range=0.2)  # fmt: skip
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def write_rows(file: Path, count: int, seed: int, *, labelled: bool = True) -> Path:
    """Write texts with words of one topic, and that topic."""
    random = np.random.default_rng(seed)
    lines = ["text\tlabel"] if labelled else []
    for _ in range(count):
        topic = str(random.choice(list(TOPICS)))
        words = random.permutation([*random.choice(TOPICS[topic], size=2), *random.choice(OTHERS, size=4)])
        lines.append(" ".join(words) + (f"\t{topic}" if labelled else ""))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher fine-tuned to classify, and its files."""
    folder = tmp_path_factory.mktemp("distill")
    words = [*(word for several in TOPICS.values() for word in several), *OTHERS]
    model = write_model(folder / "base", words)
    train, dev = write_rows(folder / "train.tsv", 160, 0), write_rows(folder / "dev.tsv", 60, 1)
    write_rows(folder / "more.txt", 120, 2, labelled=False)
    assert finetune("classify", model, train, dev, folder / "teacher", settings=QUICK)["dev"]["accuracy"] > 0.9
    return folder


def run(place: Path, out: Path, **given: Any) -> Any:
    """Distill the teacher of a place into a small student."""
    files = {"train": place / "train.tsv", "dev": place / "dev.tsv"}
    return distill("classify", place / "teacher" / "model", out, settings=QUICK, **{**files, **SMALL, **given})


def test_a_student_of_a_quarter_answers_as_its_teacher_does(place: Path, tmp_path: Path, whole: None) -> None:
    result = run(place, tmp_path / "s", text=place / "more.txt", hidden=0.1, relations=1.0, int8=True)
    assert result["dev"]["accuracy"] > 0.9
    assert result["student"] == {"layers": 1, "width": 16, "heads": 2, "blocks": [2]}
    assert {*result["sides"]} == {"teacher", "student", "int8"}
    assert result["sides"]["student"]["bytes"] < result["sides"]["teacher"]["bytes"] / 2
    assert result["sides"]["int8"]["dev"]["accuracy"] > 0.85
    assert result["kept"]["student_accuracy"] == pytest.approx(
        result["dev"]["accuracy"] / result["sides"]["teacher"]["dev"]["accuracy"], abs=1e-4
    )
    assert (tmp_path / "s" / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "s" / "teacher").exists()
    lines = [json.loads(line) for line in (tmp_path / "s" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["valid"]["accuracy"] > 0.5  # projected, and not yet trained; a guess has a third
    line = lines[-1]
    assert {"logits_loss", "hidden_loss", "relations_loss"} <= {*line}
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "s" / "model")
    assert (stock.config.hidden_size, stock.config.num_hidden_layers) == (16, 1)
    assert predict(tmp_path / "s" / "model", "the song was a band")[0]["label"] == "music"


def test_texts_alone_and_several_teachers_are_enough(place: Path, tmp_path: Path) -> None:
    finetune("classify", place / "base" / "model", place / "train.tsv", place / "dev.tsv", tmp_path / "other", seed=1,
             settings=QUICK)  # fmt: skip
    several = [place / "teacher" / "model", tmp_path / "other" / "model"]
    result = distill("classify", several, tmp_path / "s", text=[place / "more.txt"], dev=place / "dev.tsv", layers=(2,),
                     settings=QUICK)  # fmt: skip
    assert result["dev"]["accuracy"] > 0.9
    assert result["student"]["blocks"] == [2]
    assert {*result["sides"]} == {"teacher 1", "teacher 2", "student"}
    weights = safetensors.torch.load_file(tmp_path / "s" / "model" / "model.safetensors")
    assert "bert.encoder.layer.1.output.dense.weight" not in weights


def test_a_teacher_of_other_tokens_teaches_its_answers_alone(place: Path, tmp_path: Path) -> None:
    words = [*OTHERS, *(word for several in TOPICS.values() for word in several)]
    other = write_model(tmp_path / "other", words)
    result = run(place, tmp_path / "s", student=other, layers=None, width=None)
    assert result["dev"]["accuracy"] > 0.9
    with pytest.raises(ModelError, match="tokenizer"):
        run(place, tmp_path / "t", student=other, layers=None, width=None, hidden=1.0)
    assert not (tmp_path / "t").exists()


def stopped(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Have the next run stopped by a signal after so many steps."""
    count, usual = [0], loop.report

    def report(*arguments: Any) -> bool:
        count[0] += 1
        if count[0] == steps:
            signal.raise_signal(signal.SIGINT)
        return usual(*arguments)

    monkeypatch.setattr(loop, "report", report)


def same_weights(first: Path, second: Path) -> bool:
    """Say whether two runs ended with the same model, bit for bit."""
    one, other = (safetensors.torch.load_file(run / "model" / "model.safetensors") for run in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_is_the_uninterrupted_one(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"text": place / "more.txt", "hidden": 0.1, "relations": 1.0}
    whole_run = run(place, tmp_path / "whole", **given)
    with monkeypatch.context() as patch:
        stopped(patch, 20)
        with pytest.raises(Interrupted):
            run(place, tmp_path / "halves", **given)
    with pytest.raises(ModelError, match="temperature"):
        run(place, tmp_path / "halves", resume=True, temperature=5.0, **given)
    halves = run(place, tmp_path / "halves", resume=True, **given)
    assert same_weights(tmp_path / "whole", tmp_path / "halves")
    assert halves["dev"] == whole_run["dev"]


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        ({"attention": 1.0}, ConfigError, "attention"),
        ({"layers": 3}, ConfigError, "layers"),
        ({"data": "somewhere"}, UsageError, "--data"),
        ({"minutes": 3}, UsageError, "--minutes"),
        ({"train": None, "text": None}, UsageError, "--train"),
    ],
)
def test_calls_that_cannot_work_are_refused_and_nothing_is_written(
    place: Path, tmp_path: Path, given: dict[str, Any], error: type[Exception], named: str
) -> None:
    if given.get("text", 0) is None:
        given = {**given, "text": ()}
    with pytest.raises(error, match=named):
        run(place, tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()


def test_a_teacher_of_another_kind_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="base"):
        distill("classify", place / "base" / "model", tmp_path / "s", train=place / "train.tsv")
    with pytest.raises(ModelError, match="classify"):
        distill("regress", place / "teacher" / "model", tmp_path / "s", train=scores(place))


def scores(place: Path) -> Path:
    """Write a file of texts with scores."""
    file = place / "scores.tsv"
    file.write_text("text\tscore\n" + "".join(f"the song {n}\t{n / 7}\n" for n in range(40)), encoding="utf-8")
    return file


def test_a_dry_run_at_the_terminal_writes_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "classify", "--teacher", str(place / "teacher" / "model"), "--train", str(place / "train.tsv")]
    assert main([*words, "--out", str(tmp_path / "s"), "--layers", "1", "--width", "16", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["parameters"] < 10_000
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def text(place: Path) -> Path:
    """Text of the teacher's words, prepared with its tokenizer."""
    random = np.random.default_rng(5)
    words = [*(word for several in TOPICS.values() for word in several), *OTHERS]
    documents = [" ".join(random.choice(words, size=60)) + "." for _ in range(40)]
    (place / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    prepare([str(place / "text.txt")], place / "data", tokenizer=place / "base" / "model", valid_fraction=0.2)
    return place / "data"


def pretrained(place: Path, text: Path, out: Path, **given: Any) -> Any:
    """Pre-train a student of the untrained model of a place."""
    settings = {"schedule": {"steps": 12, "length": 24, "rows": 8}, "engine": {"precision": "fp32"}}
    return distill("pretrain", place / "base" / "model", out, data=text, settings=settings, **{**SMALL, **given})


def test_a_pretrained_student_is_resumed_bit_for_bit_and_starts_a_task(
    place: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = pretrained(place, text, tmp_path / "whole")
    assert {"hidden_loss", "relations_loss", "logits_loss", "mlm_loss"} <= {*result["valid"]}
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["valid"]["loss"] for line in lines if line.get("valid")]
    assert losses[-1] < losses[0]
    with monkeypatch.context() as patch:
        stopped(patch, 6)
        with pytest.raises(Interrupted):
            pretrained(place, text, tmp_path / "halves")
    pretrained(place, text, tmp_path / "halves", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "halves")
    stock = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "whole" / "model")
    assert stock.config.hidden_size == 16
    student = run(place, tmp_path / "s", student=tmp_path / "whole" / "model", layers=None, width=None)
    assert student["dev"]["accuracy"] > 0.7


def test_a_step_in_parts_is_for_tasks(place: Path, text: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path / "auto", batch_size="auto")["dev"]["accuracy"] > 0.7
    with pytest.raises(ConfigError, match="a smaller --batch-size"):
        pretrained(place, text, tmp_path / "s", batch_size="auto")


def test_a_teacher_without_words_gives_a_bare_encoder(place: Path, text: Path, tmp_path: Path) -> None:
    bare = transformers.BertModel.from_pretrained(place / "base" / "model")
    bare.save_pretrained(tmp_path / "bare")
    load_tokenizer(place / "base" / "model").write(tmp_path / "bare")
    files = {"teacher": tmp_path / "bare", "data": text, "steps": 3, "seq_length": 24, "batch_size": 8, "layers": "2"}
    with pytest.raises(ModelError, match="--logits"):
        distill("pretrain", out=tmp_path / "s", logits=1.0, **files)
    result = distill("pretrain", out=tmp_path / "s", **files)
    assert "logits_loss" not in result["valid"]
    transformers.BertModel.from_pretrained(tmp_path / "s" / "model")
    config = json.loads((tmp_path / "s" / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]


def test_data_of_another_tokenizer_is_refused(place: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--tokenizer"):
        pretrained(place, data, tmp_path / "s")
