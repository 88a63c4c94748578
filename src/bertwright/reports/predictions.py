"""Turns the predictions of any model into what people read: a table for each kind of them, or a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bertwright.errors import OutputExistsError
from bertwright.files import map_os_errors, written_aside
from bertwright.inference.base import Predictions
from bertwright.inference.questions import InputFile
from bertwright.inference.text_rows import MASK
from bertwright.log import Block, Raw, ResultTable, count_progress, note
from bertwright.result import ResultList

Prediction = dict[str, Any]

LONGEST_CELL = 80
"""Characters of a text shown in a table."""
PAIR_TITLES = {"next": "does the second text follow the first?", "in_order": "are the texts in this order?"}
"""What the head for pairs is asked, by the name its answer has in a prediction."""
INPUTS = ("text", "first", "second", "question", "context")
"""What of a prediction is the question."""
BAR = 12
"""Characters of the longest bar of an explanation."""


def write_predictions(chunks: Iterable[Predictions], output: Path, *, file: InputFile | None) -> int:
    """Write predictions as JSON lines, whole or not at all, with progress by how much of a file has been read.

    Returns how many there are. Raises OutputExistsError where `output` is a folder.
    """
    if output.is_dir():
        raise OutputExistsError(f"{output} is a folder; give --output a file")
    count = 0
    with (
        map_os_errors(output.parent),
        written_aside(output) as aside,
        aside.open("w", encoding="utf-8") as lines,
        count_progress("predictions") as done,
    ):
        for chunk in chunks:
            lines.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in chunk)
            count += len(chunk)
            done(len(chunk), None if file is None else file.progress)
    note(f"{count:,} predictions in {output}")
    return count


def shown(predictions: Sequence[Prediction]) -> ResultList[Prediction]:
    """Return predictions of one model as a result: translations show as a line each, all else as tables.

    >>> print(shown([{"text": "A fine film.", "score": 4.5}]))  # doctest: +ELLIPSIS
    predictions
    ...
    """
    return ResultList(predictions, *blocks_of(predictions), a_line_each=True)


def blocks_of(predictions: Sequence[Prediction]) -> list[Block]:
    """Return what predictions of one model look like to people."""
    if not predictions:
        return []
    if "explanations" in predictions[0]:
        return [block for one in predictions for block in _explained_blocks(one)]
    first = predictions[0]
    if "translation" in first:
        return [Raw([one["translation"] for one in predictions])]
    if "predictions" in first or PAIR_TITLES.keys() & first.keys():
        words, *pairs = ([one for one in predictions if name in one] for name in ("text", *PAIR_TITLES))
        tables = [_pair_tables(some, name) for some, name in zip(pairs, PAIR_TITLES, strict=True)]
        return [*_word_tables(words), *(table for several in tables for table in several)]
    if "replaced" in first:
        rows = [
            [token, "yes" if chance >= 0.5 else "", f"{chance:.1%}"]
            for one in predictions
            for token, chance in one["replaced"]
        ]
        return [ResultTable("was the token replaced?", ["token", "replaced", "probability"], rows)]
    if "entities" in first:
        rows = [row for one in predictions for row in _entity_rows(one)]
        return [ResultTable("predictions", ["text", "entity", "type", "characters", "probability"], rows)]
    if "passages" in first:
        rows = [row for one in predictions for row in _passage_rows(one)]
        return [ResultTable("predictions", ["query", "passage", "score"], rows)]
    if "tags" in first:
        rows = [[word["word"], word["tag"], _percent(word)] for one in predictions for word in one["tags"]]
        return [ResultTable("predictions", ["word", "tag", "probability"], rows)]
    rows_by_column = [_row(one) for one in predictions]
    return [ResultTable("predictions", list(rows_by_column[0]), [list(row.values()) for row in rows_by_column])]


def _explained_blocks(prediction: Prediction) -> list[Block]:
    """Return a prediction, and a table of what each word contributes to each part of it."""
    rest = {name: value for name, value in prediction.items() if name != "explanations"}
    return [*blocks_of([rest]), *(_explanation_table(one) for one in prediction["explanations"])]


def _explanation_table(explanation: Prediction) -> ResultTable:
    largest = max((abs(one["gradients"]) for one in explanation["words"]), default=0.0) or 1.0
    rows = [
        [
            one["word"],
            f"{one['gradients']:+.2f}",
            ("+" if one["gradients"] > 0 else "-") * round(BAR * abs(one["gradients"]) / largest),
            f"{one['occlusion']:+.2f}",
        ]
        for one in explanation["words"]
    ]
    title = (
        f"why {_short(explanation['of'])}: {explanation['unit']} {explanation['value']:+.2f}, "
        f"{explanation['masked']:+.2f} with all words masked"
    )
    return ResultTable(title, ["word", "gradients", "", "occlusion"], rows)


def _row(prediction: Prediction) -> dict[str, str]:
    """Return the cells of a prediction by the header of their column, its text first."""
    row = {"question" if "answer" in prediction else "text": _text(prediction)}
    if "answer" in prediction:
        row["answer"] = _short(prediction["answer"]) or "none"
        row["characters"] = f"{prediction['start']}-{prediction['end']}" if prediction["answer"] else ""
    elif "labels" in prediction:
        labels, probabilities = prediction["labels"], prediction["probabilities"]
        row["labels"] = ", ".join(labels) or "none"
        row["probabilities"] = ", ".join(f"{probabilities[label]:.1%}" for label in labels)
    elif named := next((name for name in ("choice", "label") if name in prediction), None):
        row[named] = _short(prediction[named])
    elif figure := next((name for name in ("score", "similarity") if name in prediction), None):
        row["cosine" if figure == "similarity" else figure] = f"{prediction[figure]:.3f}"
    else:
        row |= {name: _short(str(value)) for name, value in prediction.items() if name not in INPUTS}
        return row
    if "probability" in prediction:
        row["probability"] = _percent(prediction)
    return row


def _word_tables(predictions: Sequence[Prediction]) -> list[ResultTable]:
    """Return the words for each [MASK]: those of a single one under each other, those of several a row each."""
    masks = []
    for one in predictions:
        count = len(one["predictions"])
        for number, words in enumerate(one["predictions"], start=1):
            masks.append((one["text"] if count == 1 else f"{one['text']} (mask {number} of {count})", words))
    if not masks:
        return []
    if len(masks) == 1:
        [(text, words)] = masks
        return [
            ResultTable(text, ["word", "probability"], [[word, f"{probability:.1%}"] for word, probability in words])
        ]
    header = ["text", *map(str, range(1, 1 + len(masks[0][1])))]
    rows = [[text, *(f"{word} {probability:.1%}" for word, probability in words)] for text, words in masks]
    return [ResultTable(f"predictions for {MASK}", header, rows)]


def _pair_tables(predictions: Sequence[Prediction], name: str) -> list[ResultTable]:
    rows = [
        [one["first"], one["second"], "yes" if one[name] >= 0.5 else "no", f"{one[name]:.1%}"] for one in predictions
    ]
    header = ["first", "second", name.replace("_", " "), "probability"]
    return [ResultTable(PAIR_TITLES[name], header, rows)] if rows else []


def _entity_rows(prediction: Prediction) -> list[list[str]]:
    rows = [
        [_text(prediction), one["text"], one["type"], f"{one['start']}-{one['end']}", _percent(one)]
        for one in prediction["entities"]
    ]
    return rows or [[_text(prediction), "none", "", "", ""]]


def _passage_rows(prediction: Prediction) -> list[list[str]]:
    return [[_short(prediction["query"]), _short(one["text"]), f"{one['score']:.3f}"] for one in prediction["passages"]]


def _percent(prediction: Prediction) -> str:
    return f"{prediction['probability']:.1%}"


def _text(prediction: Prediction) -> str:
    single = next((prediction[name] for name in ("text", "question", "context") if name in prediction), None)
    return _short(f"{prediction['first']} | {prediction['second']}" if single is None else single)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."
