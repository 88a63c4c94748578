"""The doctor finds what was planted, says which flag fixes it, and the flag fixes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.errors import CorpusError
from bertwright.rng import stream
from bertwright.verbs.doctor import doctor
from bertwright.verbs.prepare import prepare

WORDS = [
    "river",
    "house",
    "people",
    "winter",
    "market",
    "green",
    "walked",
    "under",
    "slowly",
    "morning",
    "children",
] * 40
WORDS = [word + ("s" * (i // 11 % 3)) + ("ed" * (i // 33 % 2)) for i, word in enumerate(WORDS)]


def document(number: int, sentences: int = 8) -> str:
    random = stream("doctor", number)
    return " ".join(
        f"The {' '.join(random.choice(WORDS, 9))} in year {random.integers(1900)}." for _ in range(sentences)
    )


def found(report: dict[str, Any], name: str) -> dict[str, Any]:
    (finding,) = [value for key, value in report["findings"].items() if name in key]
    return dict(finding)


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 documents with known faults."""
    texts = [document(i) for i in range(400)]
    texts[:20] = texts[20:40]
    for i in range(40, 60):
        texts[i] = texts[i + 20].replace("The", "A", 1)
    texts[80:180] = [document(1000 + i, sentences=1) for i in range(100)]
    for i in range(180, 190):
        texts[i] = texts[i].replace("The", "Thé", 1).encode().decode("latin-1")
    texts[190] = texts[190].replace("The", "Th\ufffd", 1)
    texts[191] = texts[191].replace("The", "Th\x07e", 1)
    texts[192] = "x" * 20_000
    german = "Die Häuser in der kleinen Stadt sind seit vielen Jahren alt und die Menschen gehen langsam über den Markt"
    texts[200:240] = [f"{german}, Nummer {i}. {document(i, 1)[4:40]} und dann regnet es wieder." for i in range(40)]
    path = tmp_path_factory.mktemp("sick") / "sick.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sentences of the corpus, and ten of none."""
    path = tmp_path_factory.mktemp("test") / "dev.tsv"
    inside = [document(300 + i).split(".")[2] for i in range(10)]
    lines = [f"{text}\t1" for text in [*inside, *(document(5000 + i, 1) for i in range(10))]]
    path.write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return path


def test_every_planted_fault_is_found(sick: Path, test_file: Path) -> None:
    report = doctor(sick, test=[test_file])
    assert found(report, "exact copies")["value"] == pytest.approx(20 / 400)
    assert found(report, "near-copies")["value"] == pytest.approx(20 / 400)
    assert found(report, "one sentence")["value"] == pytest.approx(101 / 380, abs=0.01)
    assert found(report, "wrong encoding")["value"] == 10 / 400
    assert found(report, "U+FFFD")["value"] == 1 / 400
    assert found(report, "control")["value"] == 1 / 400
    assert found(report, "lines of over")["figure"].startswith("1 documents")
    assert found(report, "dev.tsv")["value"] == 0.5
    assert 0.05 < found(report, "language")["value"] < 0.2
    assert "all of it" in report["looked_at"]
    hurts = {name: finding["hurts"] for name, finding in report["findings"].items() if finding["hurts"]}
    assert hurts["documents of one sentence"] == "NSP"
    assert {"near-copies (Jaccard 0.8 or more)", "language", "documents with lost characters (U+FFFD)"} <= set(hurts)


def test_the_flags_it_names_mend_it(sick: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(
        [sick],
        data,
        vocab_size=512,
        valid_fraction=0.1,
        near_duplicates=0.8,
        only_language="en",
        filter=["web", "words=5:"],
    )
    report = doctor(data)
    for name in ("exact copies", "near-copies", "language", "held-out"):
        assert found(report, name)["hurts"] == "", name
    assert found(report, "unknown tokens")["value"] == 0


def test_held_out_copies_are_found(tmp_path: Path) -> None:
    lines = [document(i) for i in range(100)]
    for name, texts in (
        ("train", lines),
        ("valid", [text + " And one more." for text in lines[:25]] + [document(900)]),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prepare([tmp_path / "train.jsonl"], tmp_path / "data", valid=[tmp_path / "valid.jsonl"], vocab_size=512)
    finding = found(doctor(tmp_path / "data"), "held-out")
    assert finding["value"] == pytest.approx(25 / 26)
    assert finding["hurts"] == "evaluation"


def test_json_and_table_say_the_same_and_a_sample_is_told(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(sick), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["doctor", str(sick)]) == 0
    table = capsys.readouterr().out
    assert f"{found(report, 'near-copies')['value']:.2%}" in table
    assert main(["doctor", "builtin:python-docs", "--sample-mb", "1"]) == 0
    assert "about" in capsys.readouterr().out
    assert main(["doctor", str(sick), "--sample-mb", "0"]) == 2
    assert main(["doctor", "nowhere/"]) == 1


def test_unknown_tokens_of_a_vocabulary_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("\n\n".join(document(i) for i in range(60)))
    prepare([tmp_path / "en.txt"], tmp_path / "data", vocab_size=512)
    (tmp_path / "zh.txt").write_text("\n\n".join("今天天气很好，我们去公园散步。" * 3 for _ in range(40)))
    finding = found(doctor(tmp_path / "zh.txt", tokenizer=tmp_path / "data"), "unknown")
    assert finding["value"] > 0.5
    assert "--tokenizer" in finding["remedy"]


CHINESE = "老桥下面是一条河，人们早上走路去市场买菜，然后回家做饭。孩子们在树下读书，老人在门前喝茶。"


def test_chinese_prepared_as_another_language_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\n".join(f"{CHINESE}第{number}年下雪了。" for number in range(40)), encoding="utf-8")
    for name, language, hurts in (("en", "en", "MLM"), ("found", None, "")):
        prepare([file], tmp_path / name, vocab_size=512, language=language)
        for report in (doctor(tmp_path / name), doctor(file, language=language)):
            finding = found(report, "Chinese text")
            assert finding["hurts"] == hurts
            assert ("--language zh" in finding["remedy"]) is bool(hurts)


def test_the_cure_of_unknown_tokens_is_one_that_can_be_taken(tmp_path: Path) -> None:
    """A vocabulary that was trained is to be larger; one that was given is to be left out."""
    odd = [chr(0x4E00 + place) for place in range(3000)]
    lines = ["".join(odd[start : start + 10]) + " " + document(start, 1) for start in range(0, 3000, 10)]
    (tmp_path / "a.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n\n".join(document(i) for i in range(50)))
    prepare([tmp_path / "a.txt"], tmp_path / "small", vocab_size=512, language="en")
    finding = found(doctor(tmp_path / "small"), "unknown tokens")
    assert finding["hurts"] == "MLM"
    assert re.search(r"--vocab-size 8192.*512", finding["remedy"])
    prepare([tmp_path / "b.txt"], tmp_path / "plain", vocab_size=512)
    prepare([tmp_path / "a.txt"], tmp_path / "given", tokenizer=tmp_path / "plain" / "tokenizer", language="en")
    assert "--tokenizer" in found(doctor(tmp_path / "given"), "unknown tokens")["remedy"]
    prepare([tmp_path / "a.txt"], tmp_path / "large", vocab_size=4096, language="en")
    assert found(doctor(tmp_path / "large"), "unknown tokens")["hurts"] == ""


def test_files_that_prepare_refuses_and_files_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("".join(f"{document(n)}\n\n" for n in range(50)))
    (tmp_path / "torn.txt").write_bytes("schöne Grüße\n".encode() * 9 + b"\xff\n")
    (tmp_path / "western.txt").write_bytes("Größe und Länge\n".encode("cp1252") * 9)
    (tmp_path / "page.html").write_text("<html>")
    report = doctor(tmp_path)
    refused = report["findings"]["files that prepare refuses"]
    assert refused["figure"] == "1 of 3"
    assert refused["verdict"] == "stops prepare"
    assert re.search(r"torn\.txt.*UTF-8.*byte", refused["remedy"])
    skipped = report["findings"]["files that are not read"]
    assert skipped["figure"] == "1 .html"
    assert "page.html" in skipped["remedy"]
    with pytest.raises(CorpusError, match=r"torn\.txt.*UTF-8"):
        prepare([tmp_path], tmp_path / "data", vocab_size=512)
    (tmp_path / "torn.txt").unlink()
    assert "files that prepare refuses" not in doctor(tmp_path)["findings"]
    prepare([tmp_path], tmp_path / "data", vocab_size=512)
    (tmp_path / "torn.txt").write_bytes(b"text\0\n")
    with pytest.raises(CorpusError, match=r"torn\.txt.*NUL"):
        doctor(tmp_path / "torn.txt")
