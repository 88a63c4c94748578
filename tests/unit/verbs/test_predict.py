"""The verb `predict`: telling questions apart, reading them from files, and answering without the wrong head."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from bertwright.cli.main import main
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.inference.base import Predictions
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.inference.questions import InputFile, Question, masked_questions
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.verbs.predict import predict

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "a", "b", "c"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vocab = {name: i for i, name in enumerate(NAMES)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    shape = named_size("tiny", vocab_size=len(NAMES), hidden_size=8, heads=2, max_positions=16)
    save_model(BertForPreTraining(shape), tmp_path / "tokenizer.json", tmp_path / "model")
    return tmp_path / "model"


def test_texts_of_a_call() -> None:
    def questions_of(texts: list[str], *, pair: bool) -> list[Question]:
        return list(masked_questions(texts, pair=pair))

    assert questions_of(["a [MASK]"], pair=False) == ["a [MASK]"]
    assert questions_of(["a [MASK]", "b [MASK]"], pair=False) == ["a [MASK]", "b [MASK]"]
    assert questions_of(["a", "b"], pair=False) == [("a", "b")]
    assert questions_of(["a [MASK]", "b"], pair=True) == [("a [MASK]", "b")]
    with pytest.raises(UsageError, match=r'"b".*\[MASK\].*two texts'):
        questions_of(["a [MASK]", "b"], pair=False)
    with pytest.raises(UsageError, match=r"--pair.*3"):
        questions_of(["a", "b", "c"], pair=True)


def masked(file: Path, *, pair: bool = False) -> list[Question]:
    return list(masked_questions((), pair=pair, located=InputFile(file, head_type=None, pairs=True if pair else None)))


def test_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("a [MASK]\n\nb\tc\n", encoding="utf-8")
    assert masked(file) == ["a [MASK]", "", ("b", "c")]
    with pytest.raises(UsageError, match=r"line 1.*tab"):
        masked(file, pair=True)
    file.write_text("a\tb\n\n", encoding="utf-8")
    assert masked(file, pair=True) == [("a", "b"), ("", "")]
    file.write_text("a [MASK]\nb\tc\td\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        masked(file)
    file.write_bytes("a [MASK]\né [MASK]\n".encode("latin-1"))
    assert masked(file) == ["a [MASK]", "é [MASK]"]
    file.write_bytes(b"a [MASK]\n\0 [MASK]\n")
    with pytest.raises(CorpusError, match=r"NUL.*byte 9.*2"):
        masked(file)
    file.write_bytes("a [MASK]\n".encode("utf-16"))
    assert masked(file) == ["a [MASK]"]


def test_answers_in_order_to_a_file(folder: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("b\tc\n\na [MASK] [MASK]\n", encoding="utf-8")
    answers = predict(folder, ["c [MASK]"], input=questions, output=tmp_path / "answers.jsonl", top_k=2)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert lines == json.loads(json.dumps(answers))
    assert [line.get("text", line.get("first")) for line in lines] == ["c [MASK]", "b", "", "a [MASK] [MASK]"]
    assert lines[2]["predictions"] == []
    assert [len(mask) for mask in lines[3]["predictions"]] == [2, 2]
    assert 0 < lines[1]["next"] < 1


def test_missing_heads_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({name: t for name, t in tensors.items() if not name.startswith("cls.seq_relationship")}, file)
    assert predict(folder, ["[MASK]"])
    with pytest.raises(ModelError, match="next-sentence"):
        predict(folder, ["a", "b"])


def test_at_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(folder)
    assert main(["predict", "--model", model, "a [MASK]", "--top-k", "9"]) == 0
    shown = capsys.readouterr()
    assert "[unused0]" in shown.out
    assert shown.err == ""
    assert main(["predict", "--model", model, "a", "b"]) == 0
    assert re.search("second.*first", capsys.readouterr().out)
    monkeypatch.setattr("sys.stdin", io.StringIO("a [MASK]\nb [MASK] [MASK]\n"))
    assert main(["predict", "--model", model, "--input", "-"]) == 0
    assert "(mask 1" in capsys.readouterr().out
    assert main(["predict", "--model", model, "a [MASK]", "b [MASK]", "--top-k", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == json.loads(json.dumps(predict(folder, ["a [MASK]", "b [MASK]"], top_k=1)))
    assert capsys.readouterr().out == "", "in Python a result is returned, not printed"
    for words, code, message in (
        (["a"], 2, "has no [MASK]"),
        ([], 2, "nothing to answer"),
        (["a [MASK]", "--top-k", "0"], 2, "--top-k 0"),
        (["a " * 20 + "[MASK]"], 1, "23 tokens long but the model reads 16"),
    ):
        assert main(["predict", "--model", model, *words]) == code
        assert message in capsys.readouterr().err
    assert main(["predict", "--model", str(folder.parent / "nowhere"), "a [MASK]"]) == 1


def test_json_lines_are_printed_as_they_come(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk after chunk; a table is one, at the end; in Python all predictions are returned."""
    (tmp_path / "questions.txt").write_text("a [MASK]\n\nb [MASK]\nc [MASK]\nb [MASK]\n", encoding="utf-8")
    monkeypatch.setattr(PretrainedPredictor, "chunk", 1)
    whole = predict(folder, input=tmp_path / "questions.txt")
    one_chunk, printed = PretrainedPredictor.predict, list[str]()

    def predicted(self: PretrainedPredictor, questions: Sequence[Question]) -> Predictions:
        printed.append(capsys.readouterr().out)
        return one_chunk(self, questions)

    monkeypatch.setattr(PretrainedPredictor, "predict", predicted)
    words = ["predict", "--model", str(folder), "--input", str(tmp_path / "questions.txt")]
    assert main([*words, "--json"]) == 0
    assert [*printed[1:], capsys.readouterr().out] == [json.dumps(one, ensure_ascii=False) + "\n" for one in whole]
    printed.clear()
    assert main(words) == 0
    assert printed == [""] * 5
    assert capsys.readouterr().out.rstrip("\n") == str(whole)


def test_files_and_places_that_do_not_fit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "a.txt").write_text("a [MASK]\n")
    model, empty, full = str(folder), str(tmp_path / "empty.txt"), str(tmp_path / "a.txt")
    for words, code, message in (
        (["--input", empty], 1, "empty.txt is empty; give a file with a text a line"),
        (["--input", full, "--text-column", "a"], 2, "holds a text a line and has no columns; leave --text-column out"),
        (["a [MASK]", "--text-column", "a"], 2, "give one with --input FILE"),
        (["--input", full, "--output", str(tmp_path)], 1, "is a folder; give --output a file"),
        (["--input", full, "--output", f"{full}/b.jsonl"], 1, "a.txt cannot be made (File exists); write elsewhere"),
    ):
        assert main(["predict", "--model", model, *words]) == code
        assert message in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == "a [MASK]\n"
