"""Short real runs of three tasks, from file to folder to predict: spans that answer, one of several choices, ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.cli.main import main
from bertwright.errors import UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

NAMES = ["Anna", "Bert", "Carla", "Dorn", "Emma", "Fritz"]
PLACES = ["Rome", "Oslo", "Paris", "Delhi", "Lima", "Bonn"]
THINGS = ["cat", "dog", "tree", "boat", "song", "book"]
WORDS = ["where", "who", "does", "live", "lives", "in", "and", "likes", "the", "?", ".", "old", "very"]
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "optimizer": {"learning_rate": 3e-3},
    "batches": {"rows": 16},
    "transfer": {"dropout": 0.0, "head_dropout": 0.0},
}


@pytest.fixture(scope="module", params=["bert", "modern"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of two blocks that reads rows of up to 64 tokens."""
    folder = tmp_path_factory.mktemp("model")
    words = [word.lower() for word in (*NAMES, *PLACES, *THINGS, *WORDS)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    size = {"vocab_size": load_tokenizer(folder).vocab_size, "hidden_size": 32, "heads": 2, "max_positions": 64}
    shape = named_size("tiny", architecture=request.param, **size)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def squad(path: Path, count: int, seed: int) -> Path:
    """Write questions for the one place in a context, some longer than a row; in a fourth there is none."""
    random = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        name, other, place = str(random.choice(NAMES)), str(random.choice(THINGS)), str(random.choice(PLACES))
        before = "the very old " * int(random.integers(0, 35 if number % 5 == 0 else 3))
        lacks = number % 4 == 0
        context = f"{before}{other}. {name} lives in {'the ' + other if lacks else place}. {name} likes the {other}."
        answers = [] if lacks else [{"text": place, "answer_start": context.index(place)}]
        question = {
            "id": str(number),
            "question": f"Where does {name} live?",
            "is_impossible": lacks,
            "answers": answers,
        }
        paragraphs.append({"context": context, "qas": [question]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def test_answers_are_found(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        split: squad(tmp_path / f"{split}.json", n, n) for split, n in {"train": 240, "dev": 48, "test": 40}.items()
    }
    settings = {**QUICK, "schedule": {"epochs": 4}, "answer": {"stride": 16, "max_answer": 3}}
    settings["watch"] = {"metric": "loss"}
    figures = finetune("answer", model, **files, out=tmp_path / "run", settings=settings)
    assert figures["test"]["has_answer_exact"] > 0.9
    assert figures["test"]["no_answer_accuracy"] > 0.9
    assert figures["dev"]["f1"] == figures["dev"]["best_f1"]
    saved = tmp_path / "run" / "model"
    own = json.loads((saved / "config.json").read_text())["bertwright"]
    assert own["no_answer_threshold"] == figures["dev"]["no_answer_threshold"]
    assert own["max_answer"] == 3
    assert evaluate("answer", saved, files["test"]) == figures["test"]
    assert "kind of question" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "AutoModelForQuestionAnswering" in (saved / "README.md").read_text(encoding="utf-8")

    context = "the very old " * 28 + "cat. Emma lives in Lima. Emma likes the cat."
    questions = [f"Where does Emma live?\t{text}\n" for text in (context, context.replace("Lima", "the cat"))]
    (tmp_path / "asked.txt").write_text("".join(questions))
    found, nothing = predict(saved, input=tmp_path / "asked.txt", output=tmp_path / "answers.jsonl")
    assert context[found["start"] : found["end"]] == found["answer"] == "Lima"
    assert 0.5 < found["probability"] <= 1
    assert all(context[one["start"] : one["end"]] == one["answer"] for one in found["others"])
    assert (nothing["answer"], nothing["start"]) == ("", None)
    by_id = predict(saved, input=files["test"], output=tmp_path / "more.jsonl")
    assert [one["id"] for one in by_id] == [str(number) for number in range(40)]
    capsys.readouterr()
    assert main(["predict", "--model", str(saved), "Where does Emma live?", context[-50:]]) == 0
    assert "Lima" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"questions.*context"):
        predict(saved, ["Where does Emma live?"])


def test_a_split_may_lack_figures_of_dev(model: Path, tmp_path: Path) -> None:
    """Dev has questions of both kinds, test those without an answer alone."""
    files = {split: squad(tmp_path / f"{split}.json", 8, 0) for split in ("train", "dev", "test")}
    content = json.loads(files["test"].read_text())
    content["data"][0]["paragraphs"] = [one for one in content["data"][0]["paragraphs"] if not one["qas"][0]["answers"]]
    files["test"].write_text(json.dumps(content))
    settings = {**QUICK, "schedule": {"epochs": 1}, "answer": {"stride": 16, "max_answer": 3}}
    figures = finetune("answer", model, **files, out=tmp_path / "run", settings=settings)
    assert "has_answer_f1" in figures["dev"]
    assert "has_answer_f1" not in figures["test"]
    assert "has answer f1" in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")


def choices(path: Path, count: int, seed: int) -> Path:
    """Write questions whose right choice, of two to four, is the one that likes something; the others are in it.

    Half of them have a question before each choice.
    """
    random = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            several = int(random.integers(2, 5))
            names, right = random.permutation(NAMES)[:several].tolist(), int(random.integers(several))
            line = {
                "context": f"{names[right]} lives in {random.choice(PLACES)}.",
                "question": "Who likes?" if number % 2 else "",
                "choices": [
                    f"{name} {'likes' if place == right else 'lives in'} the {random.choice(THINGS)}."
                    for place, name in enumerate(names)
                ],
                "label": right,
            }
            file.write(json.dumps(line) + "\n")
    return path


def test_the_right_choice_is_found(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {split: choices(tmp_path / f"{split}.jsonl", n, n) for split, n in {"train": 300, "dev": 60}.items()}
    settings = {**QUICK, "schedule": {"epochs": 3}}
    figures = finetune("choose", model, **files, out=tmp_path / "run", settings=settings)
    assert figures["dev"]["accuracy"] > 0.9
    saved = tmp_path / "run" / "model"
    assert evaluate("choose", saved, files["dev"]) == figures["dev"]
    answers = predict(saved, input=files["dev"], output=tmp_path / "answers.jsonl")
    right = [json.loads(line)["label"] for line in files["dev"].read_text().splitlines()]
    hits = [one["place"] == true for one, true in zip(answers, right, strict=True)]
    assert np.mean(hits) == pytest.approx(figures["dev"]["accuracy"], abs=1e-6)
    assert sum(answers[0]["probabilities"]) == pytest.approx(1)
    questions = ["Anna lives in Rome.", "Bert lives in the cat.", "Anna likes the dog.", "Emma lives in the dog."]
    (tmp_path / "asked.txt").write_text("\t".join(questions) + "\n" + "\t".join(questions[:3]) + "\n")
    summary = predict(saved, input=tmp_path / "asked.txt", output=tmp_path / "more.jsonl")
    assert [one["choice"] for one in summary] == [questions[2], questions[2]]
    capsys.readouterr()
    assert main(["predict", "--model", str(saved), *questions]) == 0
    assert questions[2] in capsys.readouterr().out


def passages(path: Path, count: int) -> Path:
    """Write queries for where somebody lives, each with a passage that says it, another of the name, two of things."""
    random = np.random.default_rng(count)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            name = str(random.choice(NAMES))
            texts = [f"{name} lives in {random.choice(PLACES)}.", f"{name} likes the {random.choice(THINGS)}."]
            texts += [f"the {age} {random.choice(THINGS)}." for age in ("very old", "old")]
            query = f"Where does {name} live? {' '.join(random.choice(WORDS, size=3))}"
            for text, grade in zip(texts, (2, 1, 0, 0), strict=True):
                file.write(json.dumps({"query": query, "passage": text, "relevance": grade}) + "\n")
    return path


@pytest.mark.parametrize("model", ["bert"], indirect=True)
def test_passages_are_ranked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {split: passages(tmp_path / f"{split}.jsonl", n) for split, n in {"train": 300, "test": 40}.items()}
    settings = {**QUICK, "schedule": {"epochs": 4}}
    figures = finetune("rank", model, **files, out=tmp_path / "run", settings=settings)
    assert figures["metric"] == "ndcg_at_10"
    assert figures["test"]["ndcg_at_10"] > 0.9
    saved = tmp_path / "run" / "model"
    assert evaluate("rank", saved, files["test"]) == figures["test"]
    assert "CrossEncoder" in (saved / "README.md").read_text(encoding="utf-8")
    texts = ["the old boat.", "Anna likes the cat.", "Anna lives in Rome."]
    capsys.readouterr()
    assert main(["predict", "--model", str(saved), "Where does Anna live?", *texts]) == 0
    shown = capsys.readouterr().out
    assert shown.index(texts[2]) < min(shown.index(texts[0]), shown.index(texts[1]))
    with pytest.raises(UsageError, match="passage"):
        predict(saved, ["Where does Anna live?"])
