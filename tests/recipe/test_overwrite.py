"""An output is replaced only where that is asked for and safe; a dry run says what would happen and writes nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import bertwright
from bertwright.errors import CorpusError, OutputExistsError, UsageError
from bertwright.files import read_json

QUICK: dict[str, Any] = {"engine": {"compile": False, "evaluation_rows": 32}}


def state_of(folder: Path) -> dict[str, str]:
    """Return the bytes of all files of a folder, as hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_data_is_replaced_where_its_inputs_can_be_read(tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "data"
    text.write_text("\n\n".join(f"Town {index} has a river. It is wide." for index in range(50)), encoding="utf-8")
    plan = bertwright.prepare(text, out, vocab_size=512, dry_run=True)
    assert (plan["files"], plan["vocab_size"], plan["settings"]["language"]) == (1, 512, "en")
    assert not out.exists()
    bertwright.prepare(text, str(out), vocab_size=512, valid_fraction=0.1)
    before = state_of(out)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        bertwright.prepare(text, out, vocab_size=512, dry_run=True)
    with pytest.raises(CorpusError):
        bertwright.prepare(tmp_path / "absent.txt", out, vocab_size=512, overwrite=True)
    with pytest.raises(OutputExistsError, match="this call"):
        bertwright.prepare(text, out, tokenizer=out / "tokenizer", overwrite=True)
    bertwright.prepare(text, out, vocab_size=576, overwrite=True, dry_run=True)
    assert state_of(out) == before
    bertwright.prepare(text, out, vocab_size=576, cased=True, overwrite=True)
    manifest = read_json(out / "manifest.json")
    assert (manifest["tokenizer"]["vocab_size"], manifest["options"]["lowercase"]) == (576, False)


def test_a_run_is_replaced_by_one_that_begins(data: Path, tmp_path: Path) -> None:
    run, flags = tmp_path / "run", {"size": "tiny", "steps": 1, "settings": QUICK}
    plan = bertwright.pretrain(str(data), run, dry_run=True, layers=3, **flags)  # type: ignore[arg-type]
    assert plan["settings"]["model"]["layers"] == 3
    assert not run.exists()
    first = bertwright.pretrain(str(data), str(run), **flags)  # type: ignore[arg-type]
    assert first["parameters"] < plan["parameters"]
    with pytest.raises(OutputExistsError, match="--overwrite"):
        bertwright.pretrain(data, run, **flags)  # type: ignore[arg-type]
    before = state_of(run)
    bertwright.pretrain(data, run, overwrite=True, dry_run=True, **flags)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--resume"):
        bertwright.pretrain(data, run, overwrite=True, resume=True, **flags)  # type: ignore[arg-type]
    with pytest.raises(OutputExistsError, match="tokenizer"):
        bertwright.pretrain(data, data, overwrite=True, **flags)  # type: ignore[arg-type]
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\n" + "\n".join(f"word {n}\t{'ab'[n % 2]}" for n in range(40)), encoding="utf-8")
    with pytest.raises(OutputExistsError, match="this call"):
        bertwright.finetune("classify", run / "model", train, out=run, overwrite=True)
    task = bertwright.finetune(
        "classify", str(run / "model"), str(train), out=tmp_path / "task", epochs=2, dry_run=True
    )
    assert (task["examples"]["train"] + task["examples"]["dev"], task["settings"]["schedule"]["epochs"]) == (40, 2)
    assert not (tmp_path / "task").exists()
    assert state_of(run) == before
    again = bertwright.pretrain(data, run, overwrite=True, steps=2, size="tiny", settings=QUICK)
    assert (again["steps"], [one.name for one in (run / "checkpoints").iterdir()]) == (2, ["step-2"])
