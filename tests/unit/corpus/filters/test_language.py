"""The language that `prepare` takes where none is given: by characters, by the detector, or English; kept and said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bertwright.corpus.filters import language as languages
from bertwright.corpus.journal import JOURNAL, open_journal
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.survey import survey
from bertwright.errors import OutputExistsError, UsageError
from bertwright.verbs.prepare import prepare

ENGLISH = "The river runs under the old bridge, and people walk to the market in the morning. "
CHINESE = "老桥下面是一条河，人们早上走路去市场买菜，然后回家做饭。"
JAPANESE = "古い橋の下に川が流れています。人々は朝、市場へ歩いて行きます。"
GERMAN = "Unter der alten Brücke fließt ein Fluss, und die Menschen gehen morgens auf den Markt. "


def write(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.txt"))


def without_detector(texts: pa.StringArray) -> list[str]:
    raise UsageError("not installed")


@pytest.mark.parametrize(
    ("texts", "code", "plain"),
    [
        ({"a": ENGLISH * 9}, "en", "en"),
        ({"a": CHINESE * 9}, "zh", "zh"),
        ({"a": JAPANESE * 9}, "ja", "en"),
        ({"a": GERMAN * 9}, "de", "en"),
        ({"a": CHINESE * 9, "b": "1984, 12: 30"}, "zh", "zh"),
        ({"a": ENGLISH * 99, "b": CHINESE, "c": CHINESE}, "en", "en"),  # files count by their bytes
        ({"a": ENGLISH, "b": ENGLISH, "c": CHINESE * 99}, "zh", "zh"),
        ({"a": "12 34\n56"}, "en", "en"),
    ],
)
def test_the_language_of_a_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str], code: str, plain: str
) -> None:
    paths: Any = write(tmp_path, texts)
    assert survey(paths, ReadOptions(), layout="file").language.code == code
    monkeypatch.setattr(languages, "languages_of", without_detector)
    choice = survey(paths, ReadOptions(), layout="file").language
    assert choice.code == plain
    assert choice.grounds == ("characters" if plain == "zh" else "default")


def test_a_text_that_is_partly_chinese_is_told_of_both_ways(tmp_path: Path) -> None:
    (path,) = write(tmp_path, {"a": ENGLISH * 3 + CHINESE * 2})
    assert "--language zh" in survey([path], ReadOptions(), layout="file").language.advice
    (path,) = write(tmp_path, {"a": ENGLISH * 99 + CHINESE})
    assert survey([path], ReadOptions(), layout="file").language.advice == ""


def test_what_was_found_is_said_and_kept_and_data_is_as_if_it_had_been_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write(tmp_path / "in", {"a": "\n\n".join(f"{CHINESE}{'一二三四五六七八九十'[i]}号" for i in range(10))})
    found = {}
    for name, language in (("found", None), ("given", "zh")):
        prepare([path], tmp_path / name, vocab_size=512, valid_fraction=0.2, language=language)
        found[name] = json.loads((tmp_path / name / "manifest.json").read_text(encoding="utf-8"))
        assert bool(re.search("zh.*100%", capsys.readouterr().err)) is (name == "found")
    assert [one["language"] for one in found.values()] == ["zh", "zh"]
    assert [one["language_by"] for one in found.values()] == ["characters", "given"]
    assert found["found"]["fingerprint"] == found["given"]["fingerprint"]


@pytest.mark.parametrize(("kept", "given", "fits"), [("zh", None, True), ("zh", "zh", True), ("zh", "en", False)])
def test_an_unfinished_preparation_keeps_its_language(tmp_path: Path, kept: str, given: str | None, fits: bool) -> None:
    (tmp_path / JOURNAL).write_text(
        json.dumps({"settings": {"language": kept, "kind": "bpe"}, "position": [0, 0, 0], "counts": {}})
    )
    if fits:
        journal = open_journal(tmp_path, {"language": given, "kind": "bpe"})
        assert journal.settings["language"] == kept
        return
    with pytest.raises(OutputExistsError, match=r"language.*'zh'.*'en'"):
        open_journal(tmp_path, {"language": given, "kind": "bpe"})
