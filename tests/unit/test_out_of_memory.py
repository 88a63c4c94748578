"""Memory that is used up is told in one sentence, as torch itself reports it; other faults are not taken for that."""

from __future__ import annotations

import pytest
import torch

from bertwright.cli import main as command


def test_memory_that_runs_out_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run_command", lambda words: torch.empty(2**60, dtype=torch.uint8))
    assert command.main(["predict"]) == 1
    output = capsys.readouterr().err
    assert "not enough memory" in output
    assert len(output.splitlines()) == 1
    monkeypatch.setattr(command, "run_command", lambda words: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        command.main(["predict"])
