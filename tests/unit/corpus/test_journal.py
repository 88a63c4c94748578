"""The journal comes back as it was saved, and refuses folders that hold something else."""

from pathlib import Path

import pytest

from bertwright.corpus.journal import JOURNAL, open_journal
from bertwright.errors import DataError, OutputExistsError


def test_saved_and_taken_up(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, {"language": "en"})
    journal.position, journal.memory = (1, 2, 3), {"documents": {"run-000001": 7}}
    journal.counts["empty"] += 4
    journal.spent({"writing": 1.5})
    journal.shards["train"].append({"file": "train-00000.arrow", "tokens": 9})
    journal.save(tmp_path)
    again = open_journal(tmp_path, {"language": "en"})
    assert again == journal
    assert again.total("train", "tokens") == 9


def test_other_settings_are_named(tmp_path: Path) -> None:
    open_journal(tmp_path, {"language": "en", "kind": "bpe"}).save(tmp_path)
    with pytest.raises(OutputExistsError, match=r"language.*'en'.*'zh'"):
        open_journal(tmp_path, {"language": "zh", "kind": "bpe"})


def test_a_finished_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not empty"):
        open_journal(tmp_path, {})
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="prepared"):
        open_journal(tmp_path, {})


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_journal(tmp_path, {})
