"""Export and what is asked of it: figures of 8-bit integers, answers without torch, files longer than a chunk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from bertwright import log
from bertwright.cli.main import main
from bertwright.errors import ModelError, OutputExistsError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.hub.onnx import graphs
from bertwright.hub.task_folder import Problem, save_fine_tuned
from bertwright.inference.base import Predictor
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import HeadType
from bertwright.model.task_model import FineTuned
from bertwright.reports.predictions import write_predictions
from bertwright.tasks.tagging.task import crf_of
from bertwright.verbs.calls.predict_stream import stream_predictions
from bertwright.verbs.export import export
from bertwright.verbs.predict import predict

WORDS = [f"word{first}{second}" for first in "abcdefghi" for second in "abcdefghi"]
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
KINDS: dict[str, tuple[HeadType | None, Problem, tuple[str, ...]]] = {
    "classify": ("row", "single_label_classification", ("no", "yes")),
    "labels": ("row", "multi_label_classification", ("one", "two", "three")),
    "choose": ("choice", "single_label_classification", ("choice",)),
    "answer": ("span", "single_label_classification", ("start", "end")),
    "regress": ("row", "regression", ("score",)),
    "tag": ("token", "single_label_classification", ("O", "B-X", "I-X")),
    "tag by a chain": ("token", "single_label_classification", ("O", "B-X", "I-X")),
    "words": (None, "single_label_classification", ()),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders by kind, and what `export` made of each."""
    folder = tmp_path_factory.mktemp("models")
    vocab = {name: i for i, name in enumerate(NAMES)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": len(NAMES), "hidden_size": 32, "heads": 2, "max_positions": 64}
    for kind, (part, problem, labels) in KINDS.items():
        encoder = build_encoder(named_size("tiny", architecture="modern" if kind == "tag" else "bert", **shape)).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if part is None:
            save_model(encoder, folder / "tokenizer.json", folder / kind)
        else:
            crf = crf_of(labels) if kind == "tag by a chain" else None
            model = FineTuned(encoder, head_type=part, outputs=len(labels), dropout=0.0, crf=crf)
            for parameter in crf.parameters() if crf else ():
                torch.nn.init.normal_(parameter, std=3.0)
            save_fine_tuned(model, folder / "tokenizer.json", folder / kind, labels=labels, problem=problem)
        export(folder / kind, folder / f"{kind}-onnx")
    return folder


def questions(kind: str) -> list[str]:
    texts = ["wordaa wordbc wordca", "wordha", "worddd wordgg wordaa wordbb wordcc nothing"]
    if kind == "answer":
        return ["wordaa wordbc", "wordca wordha wordaa worddd wordgg " * 9]
    return [f"{text} [MASK] wordab" for text in texts] if kind == "words" else texts


@pytest.mark.parametrize("kind", KINDS)
def test_exported_answers_are_those_of_torch(kind: str, folders: Path) -> None:
    ours, theirs = (predict(folders / name, questions(kind)) for name in (kind, f"{kind}-onnx"))
    assert json.dumps(rounded(ours)) == json.dumps(rounded(theirs))


def test_a_chain_travels_with_the_graph(folders: Path, tmp_path: Path) -> None:
    chain, alone = (folders / "tag by a chain-onnx", tmp_path / "alone")
    shutil.copytree(chain, alone)
    (alone / "crf.safetensors").unlink()
    texts = questions("tag")
    assert predict(chain, texts) != predict(alone, texts), "the chain changes nothing here, so nothing is shown"
    (alone / "crf.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="3 tags"):
        predict(alone, texts)


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def test_torch_is_never_imported(folders: Path) -> None:
    program = (
        "import json, sys; from bertwright.cli.main import main; "
        "codes = [main(['predict', '--model', *words]) for words in json.loads(sys.argv[1])]; "
        "assert codes == [0] * len(codes), codes; assert 'torch' not in sys.modules, 'torch was imported'"
    )
    words = json.dumps([[str(folders / f"{kind}-onnx"), *questions(kind)] for kind in KINDS])
    ran = subprocess.run([sys.executable, "-c", program, words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "probability" in ran.stdout


def test_the_folder_says_what_it_is(folders: Path) -> None:
    about = json.loads((folders / "words-onnx" / "onnx.json").read_text(encoding="utf-8"))
    assert about["inputs"]["asked"] == ["batch", "asked"]
    assert about["outputs"] == {"mlm_logits": ["batch", "asked", len(NAMES)], "nsp_logits": ["batch", 2]}
    assert about["checked"]["largest_difference_from_torch"] < 1e-4
    assert {count for count, _ in about["checked"]["batches"]} == {1, 2, 5, 24}
    assert max(length for _, length in about["checked"]["batches"]) == 64
    assert predict(folders / "words-onnx", ["wordaa", "wordab"])[0]["next"] == pytest.approx(
        predict(folders / "words", ["wordaa", "wordab"])[0]["next"], abs=1e-4
    )


def test_int8_says_what_it_costs(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "dev.tsv"
    rows = [f"{text}\t{('no', 'yes')[number % 2]}" for number, text in enumerate(questions("classify") * 30)]
    data.write_text("\n".join(["sentence\tlabel", *rows]) + "\n", encoding="utf-8")
    words = ["--model", str(folders / "classify"), "--to", "onnx", "--out", str(tmp_path / "small")]
    assert main(["export", *words, "--quantize", "int8", "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("accuracy", "answers that agree", "rows a second", "size of the file"))
    about = json.loads((tmp_path / "small" / "onnx.json").read_text(encoding="utf-8"))
    assert about["quantized"] == "int8"
    assert about["bytes"][1] < about["bytes"][0] / 2
    assert about["figures"]["int8"].keys() == about["figures"]["float32"].keys()
    assert predict(tmp_path / "small", ["wordaa"])[0]["label"] in ("no", "yes")
    assert list(tmp_path.glob(".*")) == []
    assert "VNNI" not in capsys.readouterr().err
    del about["same_on_every_cpu"]  # as earlier versions wrote it
    (tmp_path / "small" / "onnx.json").write_text(json.dumps(about), encoding="utf-8")
    predict(tmp_path / "small", ["wordaa"])
    assert re.search("VNNI.*export", capsys.readouterr().err)


def test_nothing_is_left_of_an_export_that_fails(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="torch"):
        export(folders / "classify", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_calls_that_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="--out"):
        export(folders / "classify", folders / "tag-onnx")
    with pytest.raises(UsageError, match="fine-tuned"):
        export(folders / "words", tmp_path / "out", data=tmp_path / "dev.tsv")
    (tmp_path / "translator").mkdir()
    (tmp_path / "translator" / "config.json").write_text('{"model_type": "encoder-decoder"}')
    with pytest.raises(UsageError, match=r"translates.*ONNX"):
        export(tmp_path / "translator", tmp_path / "out")
    with pytest.raises(UsageError, match="--to onnx"):
        export(folders / "words", tmp_path / "out", to="coreml")  # type: ignore[arg-type]


def predict_to_file(model: Path, folder: Path) -> int:
    chunks, file = stream_predictions(model, input=folder / "texts.txt")
    return write_predictions(chunks, folder / "answers.jsonl", file=file)


def test_a_file_longer_than_a_chunk(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Predictor, "chunk", 7)
    monkeypatch.setattr(log, "NOTED_EVERY", 0.0)
    texts = [" ".join(NAMES[5 + (place * 7 + word) % 81] for word in range(1 + place % 9)) for place in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name in ("classify", "classify-onnx"):
        count = predict_to_file(folders / name, tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
        assert count == len(lines) == 40
        assert [line["text"] for line in lines] == texts
        for line in lines[::11]:
            [alone] = predict(folders / name, [line["text"]])
            assert alone["label"] == line["label"]
            assert alone["probability"] == pytest.approx(line["probability"], abs=1e-5)
    assert "7 predictions, " in capsys.readouterr().err


def test_a_bad_line_leaves_no_file(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "chunk", 2)
    (tmp_path / "texts.txt").write_text("wordaa\nwordab\nwordac\nworda\twordb\twordc\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"line 4.*3 texts"):
        predict_to_file(folders / "classify", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]
