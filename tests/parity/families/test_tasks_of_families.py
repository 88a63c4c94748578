"""Every architecture fine-tuned for every task, in its stock class: the same logits, loss, vectors and predictions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from bertwright import embed, evaluate, export, finetune, predict, verify
from bertwright.errors import ModelError
from bertwright.hub.encoder_decoder_folder import read_encoder_decoder
from bertwright.inference.evaluate_task import score_file
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.metrics import sigmoid, softmax

TOLERANCE = 1e-5
FIRSTS = ["The boat is red.", "we see it.", "A new moon", "The old boat sails home."]
SECONDS = ["it sails", "the moon and the old red sun", "we see the red sun", "it is old, and far from home!"]
LABELS = [0, 1, 1, 0]
SCORES = [0.0, 2.5, 1.0, 4.0]
GRADES = [1.0, 0.0, 0.0, 1.0]
WORDS = [["The", "boat", "sails", "home"], ["we", "see", "the", "red", "sun"], ["A", "moon"]]
TAGS = [["D", "N", "V", "N"], ["N", "V", "D", "J", "N"], ["D", "N"]]
QUESTIONS = [
    ("Where is it?", "it is far from home", "home"), ("we see", "A new moon and the sun", "new moon"),
    ("Is it old?", "The boat is red.", "red"), ("who sails", "we see it; a boat sails", "a boat"),
]  # fmt: skip
CHOICES = ["it sails", "the moon is far from home", "red"]
SETTINGS = {
    "precision": "fp32", "schedule": {"epochs": 1}, "batches": {"rows": 2}, "engine": {"compile": False},
    "optimizer": {"learning_rate": 0.02},
}  # fmt: skip
"""Two steps or so, at a rate that takes every weight away from where it was."""

Asked = tuple[np.ndarray, float]
"""Logits [Q, outputs] of what a task asks for, row after row, and the loss of the stock class."""


@dataclass(frozen=True)
class Given:
    """A task as its files and its stock class have it.

    file  the name of a labelled file, and lines of it
    kind  the stock class, after its architecture
    ask   asks a stock model and a stock tokenizer for logits and loss
    loss  what `evaluate` calls the loss
    """

    file: str
    lines: list[str]
    kind: str
    ask: Callable[[Any, Any], Asked]
    loss: str = "loss"


def of_rows(targets: list[Any]) -> Callable[[Any, Any], Asked]:
    def ask(model: Any, words: Any) -> Asked:
        found = model(**words(FIRSTS, SECONDS, padding=True, return_tensors="pt"), labels=torch.tensor(targets))
        return found.logits.numpy(), float(found.loss)

    return ask


def of_words(model: Any, words: Any) -> Asked:
    """Ask for each word at its first piece; the words of byte-level BPE have the blank before them."""
    if "Ġ" in words.get_vocab():
        words.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    rows = words(WORDS, is_split_into_words=True, padding=True, return_tensors="pt")
    labels = torch.full_like(rows["input_ids"], -100)
    for row, tags in enumerate(TAGS):
        of_word = rows.word_ids(row)
        for word, tag in enumerate(tags):
            labels[row, of_word.index(word)] = model.config.label2id[tag]
    found = model(**rows, labels=labels)
    return found.logits[labels >= 0].numpy(), float(found.loss)


def of_spans(model: Any, words: Any) -> Asked:
    logits, losses = [], []
    for question, context, answer in QUESTIONS:
        row, begin = words(question, context, return_tensors="pt"), context.index(answer)
        tokens = row.char_to_token(0, begin, 1), row.char_to_token(0, begin + len(answer) - 1, 1)
        first, last = (torch.tensor([token]) for token in tokens)
        found = model(**row, start_positions=first, end_positions=last)
        logits.append(torch.stack([found.start_logits[0], found.end_logits[0]], -1).numpy())
        losses.append(float(found.loss))
    return np.concatenate(logits), float(np.mean(losses))


def of_choices(model: Any, words: Any) -> Asked:
    count = len(CHOICES)
    firsts = [first for first in FIRSTS for _ in CHOICES]
    rows = words(firsts, CHOICES * len(FIRSTS), padding=True, return_tensors="pt")
    given = {name: values.view(len(FIRSTS), count, -1) for name, values in rows.items()}
    found = model(**given, labels=torch.tensor(LABELS))
    return found.logits.view(-1, 1).numpy(), float(found.loss)


def table(names: tuple[str, str, str], targets: list[Any]) -> list[str]:
    return ["\t".join(names), *("\t".join(map(str, row)) for row in zip(FIRSTS, SECONDS, targets, strict=True))]


ROWS = "ForSequenceClassification"
TASKS = {
    "classify": Given("rows.tsv", table(("first", "second", "label"), LABELS), ROWS, of_rows(LABELS)),
    "regress": Given(
        "rows.tsv", table(("first", "second", "score"), SCORES), ROWS, of_rows(SCORES), "mean_squared_error"
    ),
    "rank": Given(
        "rows.tsv", table(("query", "passage", "relevance"), GRADES), ROWS, of_rows([[grade] for grade in GRADES])
    ),
    "tag": Given(
        "words.conll",
        [line for row in zip(WORDS, TAGS, strict=True) for line in (*map("\t".join, zip(*row, strict=True)), "")],
        "ForTokenClassification",
        of_words,
    ),
    "answer": Given(
        "questions.jsonl",
        [
            json.dumps({
                "id": answer, "question": question, "context": context,
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            })
            for question, context, answer in QUESTIONS
        ],
        "ForQuestionAnswering",
        of_spans,
    ),
    "choose": Given(
        "choices.jsonl",
        [
            json.dumps({"context": first, "choices": CHOICES, "label": label})
            for first, label in zip(FIRSTS, LABELS, strict=True)
        ],
        "ForMultipleChoice",
        of_choices,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Draw no picture into reports, and take the peak rate of the machine as known: most of what a run takes."""
    spared: dict[str, Any] = {"draw": lambda drawers, lines: "", "matmul_rate": lambda *shape, **given: 1e9}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for function in spared.keys() & vars(module).keys() if name.startswith("bertwright.") else ():
                patch.setattr(module, function, spared[function])
        yield


@dataclass(frozen=True)
class Tuned:
    """A labelled file, the model that came out of it, and the figures of its run on it: before it was written."""

    file: Path
    made: Path
    dev: dict[str, float]


def tuned(task: str, folder: Path, lines: list[str], name: str, out: Path, **settings: Any) -> Tuned:
    """Fine-tune a folder for two steps or so."""
    file = out / name
    file.write_text("\n".join(lines) + "\n")
    figures = finetune(task, folder, file, dev=file, out=out / "run", settings=SETTINGS | settings)
    made = out / "run" / "model"
    verify(made)
    assert not torch.equal(word_vectors(made), word_vectors(folder))
    return Tuned(file, made, figures["dev"])


def theirs_of(folder: Path, kind: str) -> tuple[Any, Any]:
    """Return their model of a folder, of which no weight is missing or too many, and their tokenizer."""
    model, info = getattr(transformers, kind).from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def word_vectors(folder: Path) -> torch.Tensor:
    """Return the word embeddings of a folder, which training moves, from the weights as they are stored."""
    weights, names = load_file(folder / "model.safetensors"), ("word_embeddings.weight", "tok_embeddings.weight")
    return next(weights[name] for name in weights if name.endswith(names))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_with_a_head(any_family: tuple[str, Path], task: str, tmp_path: Path) -> None:
    _, folder = any_family
    given = TASKS[task]
    run = tuned(task, folder, given.lines, given.file, tmp_path)
    made = run.made
    model, words = theirs_of(made, f"AutoModel{given.kind}")
    assert type(model).__name__ == json.loads((made / "config.json").read_text())["architectures"][0]
    with torch.inference_mode():
        expected, loss = given.ask(model, words)
    ours = score_file(task, made, run.file, ColumnsConfig(), positive=None).logits
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE)
    assert np.ptp(expected, axis=0).min() > 100 * TOLERANCE
    for figures in (run.dev, evaluate(task, made, run.file)):
        assert figures[given.loss] == pytest.approx(loss, abs=TOLERANCE)
    PREDICTED[task](made, expected, words)
    if task == "classify":
        export(made, tmp_path / "onnx")
        PREDICTED[task](tmp_path / "onnx", expected, words)


def a_class(made: Path, logits: np.ndarray, words: Any) -> None:
    probabilities = softmax(logits)
    for place in (0, 1):
        (answer,) = predict(made, (FIRSTS[place], SECONDS[place]), pair=True, precision="fp32")
        assert answer["label"] == str(probabilities[place].argmax())
        assert answer["probability"] == pytest.approx(probabilities[place].max(), abs=TOLERANCE)


def a_score(made: Path, logits: np.ndarray, words: Any) -> None:
    (answer,) = predict(made, (FIRSTS[0], SECONDS[0]), pair=True, precision="fp32")
    assert answer["score"] == pytest.approx(float(logits[0, 0]), abs=TOLERANCE)


def an_order(made: Path, logits: np.ndarray, words: Any) -> None:
    """Give the first query its own passage and no other: the grades of others are not in the file."""
    (answer,) = predict(made, (FIRSTS[0], SECONDS[0], SECONDS[1]), precision="fp32")
    scores = {passage["text"]: passage["score"] for passage in answer["passages"]}
    assert scores[SECONDS[0]] == pytest.approx(float(sigmoid(logits[0, 0])), abs=TOLERANCE)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


def tags(made: Path, logits: np.ndarray, words: Any) -> None:
    """They stand in the order of the alphabet, as labels of a model do."""
    names, probabilities = sorted({tag for row in TAGS for tag in row}), softmax(logits)
    found = [one for text in predict(made, [" ".join(row) for row in WORDS], precision="fp32") for one in text["tags"]]
    assert [one["word"] for one in found] == [word for row in WORDS for word in row]
    assert [one["tag"] for one in found] == [names[place] for place in probabilities.argmax(-1)]
    assert [one["probability"] for one in found] == pytest.approx(probabilities.max(-1).tolist(), abs=TOLERANCE)


def a_span(made: Path, logits: np.ndarray, words: Any) -> None:
    """The best of all spans of the context."""
    question, context, _ = QUESTIONS[0]
    row = words(question, context, return_offsets_mapping=True)
    places = [token for token, text in enumerate(row.sequence_ids()) if text == 1]
    spans = {(i, j): float(logits[i, 0] + logits[j, 1]) for i in places for j in places if i <= j < i + 30}
    first, last = max(spans, key=spans.__getitem__)
    (answer,) = predict(made, (question, context), pair=True, precision="fp32")
    begin, end = row["offset_mapping"][first][0], row["offset_mapping"][last][1]
    assert answer["answer"] == context[begin:end].strip()
    assert answer["score"] == pytest.approx(spans[first, last], abs=2 * TOLERANCE)


def a_choice(made: Path, logits: np.ndarray, words: Any) -> None:
    (answer,) = predict(made, (FIRSTS[0], *CHOICES), precision="fp32")
    probabilities = softmax(logits[: len(CHOICES), 0][None])[0]
    assert answer["place"] == int(probabilities.argmax())
    assert answer["probabilities"] == pytest.approx(probabilities.tolist(), abs=TOLERANCE)


PREDICTED: dict[str, Callable[[Path, np.ndarray, Any], None]] = {
    "classify": a_class, "regress": a_score, "rank": an_order, "tag": tags, "answer": a_span, "choose": a_choice,
}  # fmt: skip
"""What compares the predictions of a folder with logits of the stock class."""


def test_sentence_vectors(any_family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = any_family
    run = tuned("embed", folder, table(("sentence1", "sentence2", "score"), SCORES), "rows.tsv", tmp_path)
    made, pearson = run.made, run.dev["pearson"]
    model, words = theirs_of(made, "AutoModel")
    batch = words([*FIRSTS, *SECONDS], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    kept = batch["attention_mask"][:, :, None]
    expected = torch.nn.functional.normalize((states * kept).sum(1) / kept.sum(1), dim=-1).numpy()
    np.testing.assert_allclose(embed(made, [*FIRSTS, *SECONDS]), expected, atol=TOLERANCE)
    similarity = (expected[: len(FIRSTS)] * expected[len(FIRSTS) :]).sum(-1)
    (answer,) = predict(made, (FIRSTS[0], SECONDS[0]), pair=True)
    assert answer["similarity"] == pytest.approx(float(similarity[0]), abs=TOLERANCE)
    assert pearson == pytest.approx(np.corrcoef(similarity, SCORES)[0, 1], abs=1e-4)
    assert evaluate("embed", made, run.file)["pearson"] == pytest.approx(pearson, abs=TOLERANCE)
    export(made, tmp_path / "onnx")
    np.testing.assert_allclose(embed(tmp_path / "onnx", [*FIRSTS, *SECONDS]), expected, atol=TOLERANCE)


def test_a_translator(any_family: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = any_family
    lines = ["source\ttarget", *map("\t".join, zip(FIRSTS, SECONDS, strict=True))]
    narrow = name.startswith("electra")  # embeddings that a decoder has no place for
    start = "encoder" if narrow else "both"
    run = tuned("translate", folder, lines, "rows.tsv", tmp_path, translate={"start": start, "beams": 2})
    made = run.made
    model, words = theirs_of(made, "EncoderDecoderModel")
    rules = read_encoder_decoder(made).rules
    ids, losses = [], []
    with torch.inference_mode():
        for first, second in zip(FIRSTS, SECONDS, strict=True):
            row, target = (words(text, return_tensors="pt")["input_ids"] for text in (first, second))
            logits = model(input_ids=row, decoder_input_ids=target[:, :-1]).logits[0]
            losses += torch.nn.functional.cross_entropy(logits, target[0, 1:], reduction="none").tolist()
            ids.append(model.generate(row)[0, 1:].tolist())
    for figures in (run.dev, evaluate("translate", made, run.file)):
        assert figures["loss"] == pytest.approx(np.mean(losses), abs=TOLERANCE)
    texts = [words.decode([i for i in text if i != rules.end], skip_special_tokens=True).strip() for text in ids]
    assert [answer["translation"] for answer in predict(made, FIRSTS)] == texts
    if narrow:
        with pytest.raises(ModelError, match="Electra"):
            finetune("translate", folder, run.file, dev=run.file, out=tmp_path / "both", settings=SETTINGS)
