"""`predict --explain`: words, their places, and contributions that add up to what the prediction itself says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bertwright.cli.main import main
from bertwright.errors import InputError, UsageError
from bertwright.hub.task_folder import read_fine_tuned
from bertwright.inspection.word_rows import word_row
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import LabelledBatch
from bertwright.verbs.export import export
from bertwright.verbs.predict import predict


def odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def check_sums(explanation: dict[str, Any], texts: tuple[str, ...]) -> None:
    """Contributions of gradients add up; words stand where they say."""
    total = sum(one["gradients"] for one in explanation["words"])
    assert total == pytest.approx(explanation["value"] - explanation["masked"], abs=2e-2)
    for one in explanation["words"]:
        assert texts[one["text"]][one["start"] : one["end"]] == one["word"]


def test_the_word_behind_each_mask_is_explained(pretrained: Path) -> None:
    text = "Return [MASK] if the [MASK] is empty."
    [found] = predict(pretrained, [text], explain=True)
    assert len(found["explanations"]) == 2
    for explanation, words in zip(found["explanations"], found["predictions"], strict=True):
        check_sums(explanation, (text,))
        assert explanation["of"] == words[0][0]
        assert explanation["value"] == pytest.approx(odds(words[0][1]), abs=1e-3)
        assert [one["word"] for one in explanation["words"]] == [*text[:-1].split(), "."]
        masks = [one for one in explanation["words"] if one["word"] == "[MASK]"]
        assert all(one["gradients"] == 0 and one["occlusion"] == 0 for one in masks)
        assert any(abs(one["occlusion"]) > 0.05 for one in explanation["words"])


def test_next_sentences_are_explained_over_both_texts(pretrained: Path) -> None:
    pair = ("The list is empty.", "They go home.")
    [found] = predict(pretrained, list(pair), explain=True)
    [explanation] = found["explanations"]
    check_sums(explanation, pair)
    assert explanation["value"] == pytest.approx(odds(found["next"]), abs=1e-3)
    assert {one["text"] for one in explanation["words"]} == {0, 1}


def test_a_label_and_labels_and_a_score_are_explained(fine_tuned: dict[str, Path]) -> None:
    text = "A fine film."
    [one] = predict(fine_tuned["classify"], [text], explain=True)
    [explanation] = one["explanations"]
    assert (explanation["of"], explanation["unit"]) == (one["label"], "log-odds")
    assert explanation["value"] == pytest.approx(odds(one["probability"]), abs=1e-3)
    check_sums(explanation, (text,))
    [several] = predict(fine_tuned["several"], [text], explain=True)
    assert [found["of"] for found in several["explanations"]] == several["labels"] or not several["labels"]
    for found in several["explanations"]:
        assert found["value"] == pytest.approx(odds(several["probabilities"][found["of"]]), abs=1e-3)
    [scored] = predict(fine_tuned["regress"], [text], explain=True)
    assert scored["explanations"][0]["value"] == pytest.approx(scored["score"], abs=1e-4)


def test_occlusion_is_the_change_when_one_word_is_masked(fine_tuned: dict[str, Path]) -> None:
    folder, text = fine_tuned["regress"], "A fine films."
    [found] = predict(folder, [text], explain=True)
    tokenizer = load_tokenizer(folder)
    row = word_row([text], tokenizer, max_length=48)
    assert [row.surface(word) for word in row.words] == ["A", "fine", "films", "."]
    model = read_fine_tuned(folder).model

    def score(ids: torch.Tensor) -> float:
        rows = ids[None], torch.zeros_like(ids[None]), torch.ones_like(ids[None], dtype=torch.bool)
        with torch.no_grad():
            return float(model(LabelledBatch(*rows, asked=torch.tensor([[0]]), targets=ids))[0, 0, 0])

    without = row.ids.clone()
    without[3:5] = tokenizer.special.mask  # "films" has two pieces
    part = found["explanations"][0]["words"][2]["occlusion"]
    assert part == pytest.approx(score(row.ids) - score(without), abs=1e-5)


def test_entities_and_answers_are_explained(fine_tuned: dict[str, Path]) -> None:
    text = "Anna lives in Graz. They go home."
    [tagged] = predict(fine_tuned["tag"], [text], explain=True)
    assert len(tagged["explanations"]) == len(tagged["entities"]) > 0
    for explanation, entity in zip(tagged["explanations"], tagged["entities"], strict=True):
        assert explanation["of"] == f"{entity['type']}: {entity['text']}"
        check_sums(explanation, (text,))
        if " " not in entity["text"]:
            assert explanation["value"] == pytest.approx(odds(entity["probability"]), abs=1e-3)
    assert any(" " not in entity["text"] for entity in tagged["entities"])
    pair = ("Who lives in Graz?", text)
    [answered] = predict(fine_tuned["answer"], list(pair), explain=True)
    [explanation] = answered["explanations"]
    check_sums(explanation, pair)
    assert explanation["of"] == answered["answer"]


def test_a_choice_and_a_passage_are_explained(fine_tuned: dict[str, Path]) -> None:
    choices = ("is empty", "rains", "go home")
    [chosen] = predict(fine_tuned["choose"], ["the film", *choices], explain=True)
    [explanation] = chosen["explanations"]
    assert explanation["of"] == chosen["choice"]
    check_sums(explanation, ("the film", chosen["choice"]))
    others = [
        predict(fine_tuned["choose"], ["the film", one, one], explain=True)[0]["explanations"][0]["value"]
        for one in choices
    ]
    wanted = torch.tensor(others).softmax(0).tolist()
    assert wanted == pytest.approx(chosen["probabilities"], abs=1e-4)
    [ranked] = predict(fine_tuned["rank"], ["who lives", "anna lives in graz", "it rains"], explain=True)
    [explanation] = ranked["explanations"]
    assert explanation["of"] == ranked["passages"][0]["text"]
    assert explanation["value"] == pytest.approx(odds(ranked["passages"][0]["score"]), abs=1e-3)


def test_an_empty_text_has_no_explanation_and_other_kinds_are_refused(
    fine_tuned: dict[str, Path], tmp_path: Path
) -> None:
    assert predict(fine_tuned["classify"], [""], explain=True)[0]["explanations"] == []
    with pytest.raises(InputError, match="48"):
        predict(fine_tuned["classify"], ["film " * 60], explain=True)
    pytest.importorskip("onnxruntime")
    export(fine_tuned["classify"], tmp_path / "onnx", to="onnx")
    with pytest.raises(UsageError, match="--explain"):
        predict(tmp_path / "onnx", ["a film"], explain=True)


def test_it_is_shown_as_a_table_and_as_json(fine_tuned: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--model", str(fine_tuned["classify"]), "--explain", "A fine film."]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "log-odds" in shown
    assert "film" in shown
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    found = found[0] if isinstance(found, list) else found
    assert len(found["explanations"][0]["words"]) == 4
