"""Runs without a dev file hold out a share of the training file, in every task; known or unlabelled texts are noted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file

from bertwright.cli.main import main
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.files import write_json
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.train.checkpoint.task_resume import require_same_run, task_identity
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.by_task import set_up
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune

WORDS = ["good", "bad", "film", "song", "book", "meal", "in", "was", "the", "a", "rome", "oslo", "who", "where", "is"]
ROWS = 200


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of two blocks."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *map(str, range(ROWS))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=16, heads=2, intermediate_size=32, max_positions=64)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def table(path: Path, header: str, row: Callable[[int], str], *, count: int = ROWS) -> Path:
    path.write_text("".join(f"{line}\n" for line in [header, *map(row, range(count))]), encoding="utf-8")
    return path


def text(number: int) -> str:
    """A text; every fifth is that of the number before, with other blanks."""
    return f"the film {number} was good" if number % 5 else f"the  film {number - 1} was good "


def squad(path: Path) -> Path:
    def about(number: int) -> dict[str, Any]:
        context = f"film {number // 4} was in rome"
        answers = [{"text": "rome", "answer_start": context.index("rome")}]
        return {"context": context, "qas": [{"id": str(number), "question": f"where {number}", "answers": answers}]}

    write_json(path, {"data": [{"paragraphs": [about(number) for number in range(ROWS)]}]})
    return path


def classes(folder: Path, name: str = "train", **given: Any) -> Path:
    return table(folder / f"{name}.tsv", "text\tlabel", lambda i: f"{text(i)}\t{'ab'[i % 10 > 2]}", **given)


FILES: dict[str, Callable[[Path], Path]] = {
    "classify": classes,
    "regress": lambda folder: table(folder / "a.tsv", "text\tscore", lambda i: f"{text(i)}\t{i % 7}"),
    "tag": lambda folder: table(folder / "a.conll", "", lambda i: f"the O\nfilm B-X\n{i // 2} O\n"),
    "answer": lambda folder: squad(folder / "a.json"),
    "choose": lambda folder: table(
        folder / "a.csv", "sent1,ending0,ending1,label", lambda i: f"{text(i)},was good {i},was bad,{i % 2}"
    ),
    "translate": lambda folder: table(folder / "a.tsv", "source\ttarget", lambda i: f"{text(i)}\tgood film {i}"),
    "embed": lambda folder: table(folder / "a.tsv", "sentence1\tsentence2", lambda i: f"{text(i)}\tgood film {i // 5}"),
}


def built(task: str, model: Path, file: Path, settings: dict[str, Any] | None = None) -> TaskSetup:
    return set_up(resolve_finetune(task, settings or {}), model, {"train": file})


@pytest.mark.parametrize("task", FILES)
def test_a_share_of_every_task_is_held_out(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    file = FILES[task](tmp_path)
    parts = built(task, model, file)
    train, dev = (parts.splits[name].examples for name in ("train", "dev"))
    assert len(train) + len(dev) == ROWS
    assert len(dev) == pytest.approx(ROWS / 10, abs=1)
    assert re.search(rf"--dev.*{len(dev)}.*{ROWS} examples.*{file}", capsys.readouterr().err)
    sides = [{" ".join(group.split()) for group in examples.groups()} for examples in (train, dev)]
    assert not sides[0] & sides[1]
    rows = [parts.splits[name].rows for name in ("train", "dev")]
    assert all(len(row) >= len(examples) for row, examples in zip(rows, (train, dev), strict=True))
    again = built(task, model, file).splits["dev"].examples
    assert again.keys() == dev.keys()
    more = built(task, model, file, {"split": {"dev_fraction": 0.4}}).splits["dev"].examples
    assert len(more) == pytest.approx(0.4 * ROWS, abs=1)


def test_classes_keep_their_shares_and_weights_are_those_of_what_is_trained_on(model: Path, tmp_path: Path) -> None:
    parts = built("classify", model, classes(tmp_path), {"head": {"class_weights": "balanced"}})
    counts = {name: np.bincount(split.examples.targets) for name, split in parts.splits.items()}
    assert counts["dev"].tolist() == pytest.approx([6, 14], abs=1)
    assert parts.task.weights == pytest.approx(counts["train"].sum() / (2 * counts["train"]))
    scores = built("regress", model, FILES["regress"](tmp_path))
    assert scores.task.middle == pytest.approx(scores.splits["train"].examples.targets.mean())


def test_a_run_is_gone_on_with_by_the_same_rows_alone(model: Path, tmp_path: Path) -> None:
    files = {"train": classes(tmp_path)}
    write_json(tmp_path / "manifest.json", {"identity": task_identity(built("classify", model, files["train"]), files)})
    require_same_run(tmp_path, task_identity(built("classify", model, files["train"]), files))
    other = built("classify", model, files["train"], {"split": {"dev_fraction": 0.2}})
    with pytest.raises(ModelError, match=r"split\.dev_fraction.*0\.1.*0\.2"):
        require_same_run(tmp_path, task_identity(other, files))
    both = files | {"dev": files["train"]}
    with pytest.raises(ModelError, match="dev file"):
        require_same_run(tmp_path, task_identity(set_up(resolve_finetune("classify", {}), model, both), both))


def test_a_run_is_gone_on_with_by_the_same_pickled_weights_alone(model: Path, tmp_path: Path) -> None:
    folder, files = tmp_path / "model", {"train": classes(tmp_path)}
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    write_json(
        tmp_path / "manifest.json", {"identity": task_identity(built("classify", folder, files["train"]), files)}
    )
    torch.save({name: value + 1 for name, value in weights.items()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="the model"):
        require_same_run(tmp_path, task_identity(built("classify", folder, files["train"]), files))


def test_a_whole_run_without_dev_and_with_a_test_file_without_labels(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = classes(tmp_path)
    test = table(tmp_path / "test.tsv", "id\ttext", lambda i: f"{i}\tthe song {i} was bad", count=7)
    words = ["--model", model, "--train", train, "--test", test, "--out", tmp_path / "run", "--epochs", "1"]
    assert main(["finetune", "classify", *map(str, words), "--dev-fraction", "0.2"]) == 0
    output = " ".join(capsys.readouterr().err.split())
    assert re.search(r"test\.tsv.*labels", output)
    assert f"predict --model {tmp_path / 'run' / 'model'} --input" in output
    figures = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert figures["examples"] == {"train": 160, "dev": 40}
    assert figures["dev_fraction"] == 0.2
    answers = (tmp_path / "run" / figures["test_predictions"]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in answers] == [f"the song {i} was bad" for i in range(7)]
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"dev.*40 examples", card)
    assert "by a hash" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(CorpusError, match=r"labels.*predict --model.*--input.*test\.tsv"):
        evaluate("classify", tmp_path / "run" / "model", test)
    with pytest.raises(CorpusError, match=r"labels.*--dev"):
        finetune("classify", model, train, test, tmp_path / "other")
    with pytest.raises(UsageError, match=r"--dev.*--dev-fraction"):
        finetune("classify", model, train, train, tmp_path / "other", settings={"split": {"dev_fraction": 0.2}})


def test_known_texts_are_a_warning(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = classes(tmp_path)
    test = table(tmp_path / "test.tsv", "text\tlabel", lambda i: f"the song {i} was\tb" if i % 2 else f"{text(i)}\ta")
    settings = {"schedule": {"epochs": 1}, "batches": {"rows": 64}}
    figures = finetune("classify", model, train, train, tmp_path / "run", test=test, settings=settings)
    output = " ".join(capsys.readouterr().err.split())
    assert re.search(r"warning: 200 of 200 .*dev .*100\.0%.*train", output)
    assert re.search(r"warning: 100 of 200 .*test .*50\.0%.*train", output)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["overlaps"] == {"dev": {"train": 200}, "test": {"train": 100, "dev": 100}}
    assert "200 of 200" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert figures["test"]["accuracy"] >= 0


def test_names_of_tags_are_for_taggers(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--label-names is for tag"):
        built("classify", model, classes(tmp_path), {"columns": {"label_names": ["a", "b"]}})


def test_what_cannot_be_divided_is_said(model: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "a.tsv", "text\tlabel", lambda i: f"the film\t{'ab'[i % 2]}")
    with pytest.raises(CorpusError, match="200 examples"):
        built("classify", model, file)
    (tmp_path / "a.txt").write_text("good film\nbad film\n")
    with pytest.raises(CorpusError, match="texts"):
        built("embed", model, tmp_path / "a.txt")


UNLABELLED: dict[str, tuple[str, str]] = {
    "regress": ("a.tsv", "text\nthe film was good\n"),
    "choose": ("a.csv", "sent1,ending0,ending1\nthe film,was good,was bad\n"),
    "answer": (
        "a.json",
        '{"data": [{"paragraphs": [{"context": "in rome", "qas": [{"id": "1", "question": "where"}]}]}]}',
    ),
    "translate": ("a.txt", "the film was good\n"),
    "tag": ("a.jsonl", '{"tokens": ["the", "film"]}\n'),
}


def test_words_without_tags_and_tags_that_do_not_fit(model: Path, tmp_path: Path) -> None:
    train = FILES["tag"](tmp_path)
    words = {"train": train, "dev": train, "test": tmp_path / "test.conll"}
    words["test"].write_text("the\nfilm\n\nrome\n", encoding="utf-8")
    assert list(set_up(resolve_finetune("tag", {}), model, words).unlabelled) == ["test"]
    odd = words | {"test": tmp_path / "odd.jsonl"}
    odd["test"].write_text('{"tokens": ["the", "film"], "tags": ["O"]}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"2 words in tokens.*1 tags"):
        set_up(resolve_finetune("tag", {}), model, odd)


@pytest.mark.parametrize("task", UNLABELLED)
def test_a_test_file_without_labels_is_known_in_every_task(model: Path, tmp_path: Path, task: str) -> None:
    name, content = UNLABELLED[task]
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / name).write_text(content, encoding="utf-8")
    train = FILES[task](tmp_path)
    parts = set_up(resolve_finetune(task, {}), model, {"train": train, "dev": train, "test": tmp_path / "test" / name})
    assert list(parts.unlabelled) == ["test"]
    assert "test" not in parts.splits
    labelled = set_up(resolve_finetune(task, {}), model, {"train": train, "dev": train, "test": train})
    assert not labelled.unlabelled
