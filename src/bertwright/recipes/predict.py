"""Asks a model what its head is for: the word behind a [MASK], whether one text follows another, or its task."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.evaluate.fill_mask import fill_masks
from bertwright.evaluate.sentence_pairs import next_sentence
from bertwright.evaluate.text_rows import MASK
from bertwright.export.encoder_decoder import is_encoder_decoder
from bertwright.export.fine_tuned import fine_tuned_part
from bertwright.export.huggingface import LoadReport, read_model
from bertwright.export.sentence import is_sentence_folder
from bertwright.files import write_text
from bertwright.log import note, print_table
from bertwright.model.encoder import Encoder, Part
from bertwright.recipes.predict_embed import similarities
from bertwright.recipes.predict_task import answer_task, print_task_answers, questions_in
from bertwright.recipes.predict_translation import predict_translations
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.train.precision import pick_device

STDIN = Path("-")

Question = str | tuple[str, str]
"""A text with [MASK] in it, or a pair."""


@dataclass(frozen=True)
class Oracle:
    """A model, its tokenizer, and what of it was read from the folder."""

    folder: Path
    model: Encoder
    tokenizer: Tokenizer
    report: LoadReport


def predict(
    model: Path,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | None = None,
    output: Path | None = None,
    top_k: int = 5,
) -> list[dict[str, Any]]:
    """Answer questions with the model of a Hugging Face folder; print them as a table, or write JSON lines.

    A fine-tuned model does what it was trained for, with texts or, with `pair`, two of them (see `answer_task`),
    translates (see `predict_translations`), or says how alike two texts are (see `similarities`).

    A text with [MASK] gives {"text", "predictions": for each [MASK] a list of [token, probability]}; a pair (two texts
    without [MASK], two texts with `pair`, or a line of `input` with a tab) gives {"first", "second", "next": the
    probability that the second follows}. `input` is a file of one question a line, or "-" for stdin. Raises UsageError
    where a text is neither, and ModelError where the model lacks the head asked for.
    """
    if top_k < 1:
        raise UsageError(f"--top-k {top_k} asks for no words; give 1 or more")
    model = Path(model)
    if is_encoder_decoder(model):
        return predict_translations(model, texts, input=input, output=output)
    of_sentences = is_sentence_folder(model)
    part = fine_tuned_part(model) if model.is_dir() else None
    has_task = of_sentences or part is not None
    if has_task:
        asked = task_questions(texts, pair=pair or (of_sentences and len(texts) == 2), input=input, part=part)
        answers = (similarities if of_sentences else answer_task)(model, asked)
    else:
        questions = [*questions_of(texts, pair=pair), *(read_questions(Path(input), pair=pair) if input else [])]
        if not questions:
            raise UsageError(
                f'nothing to answer: give a TEXT such as "Paris is the {MASK} of France.", or --input FILE'
            )
        answers = answer(open_oracle(model), questions, top_k=top_k)
    if output is not None:
        write_text(Path(output), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in answers))
        note(f"{len(answers):,} answers in {output}")
    else:
        (print_task_answers if has_task else print_answers)(answers)
    return answers


def task_questions(texts: Sequence[str], *, pair: bool, input: Path | None, part: Part | None) -> list[tuple[str, ...]]:
    """Return what a fine-tuned model is asked: texts, or with `pair` two of them, and what a file asks.

    A line with a tab is a pair. The texts of a model of spans are a question and its context, those of a model of
    choices a context and its choices. Raises UsageError where there is nothing, and CorpusError where a file cannot be
    read.
    """
    if pair and texts and len(texts) != 2:
        raise UsageError(f"--pair takes two texts, not {len(texts)}; put more pairs in a file (--input), tab between")
    together = pair or part in ("span", "choice")
    asked: list[tuple[str, ...]] = [tuple(texts)] if together and texts else [(text,) for text in texts]
    whole = questions_in(part, Path(input)) if input else None
    asked += whole or []
    for number, line in numbered_lines(Path(input)) if input and whole is None else []:
        parts = tuple(line.split("\t"))
        if (len(parts) > 2 and part != "choice") or (pair and len(parts) != 2):
            raise UsageError(f"{input}, line {number} should hold two texts with one tab between: {line[:60]!r}")
        asked.append(parts)
    if not asked:
        raise UsageError("nothing to answer: give a TEXT, or --input FILE with one a line")
    return asked


def questions_of(texts: Sequence[str], *, pair: bool) -> list[Question]:
    """Return what the texts of a call ask: one pair, or a [MASK] each."""
    masked = [MASK in text for text in texts]
    if pair and texts and len(texts) != 2:
        raise UsageError(f"--pair takes two texts, not {len(texts)}; put more pairs in a file (--input), tab between")
    if len(texts) == 2 and (pair or not any(masked)):
        return [(texts[0], texts[1])]
    for text, has_mask in zip(texts, masked, strict=True):
        if not has_mask:
            raise UsageError(
                f'"{text}" has no {MASK}: write {MASK} in place of the word to guess, '
                "or give two texts to ask whether the second follows the first"
            )
    return list(texts)


def read_questions(file: Path, *, pair: bool) -> list[Question]:
    """Return the questions of a file, one a line, a tab between the texts of a pair; empty lines are passed over."""
    questions: list[Question] = []
    for number, line in numbered_lines(file):
        parts = line.split("\t")
        if len(parts) == 2:
            questions.append((parts[0], parts[1]))
        elif len(parts) == 1 and not pair and MASK in line:
            questions.append(line)
        else:
            wanted = "two texts with one tab between" if pair else f"a text with {MASK}, or two texts and a tab"
            raise UsageError(f"{file}, line {number} should hold {wanted}: {line[:60]!r}")
    return questions


def numbered_lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines of a UTF-8 file, or of stdin, that hold something, with their numbers from 1; CorpusError."""
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CorpusError(f"there is no file {file}; give one that exists, or - for stdin") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {file} as UTF-8 text: {error}") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def open_oracle(folder: Path) -> Oracle:
    """Read a model folder onto the fastest device; raises ModelError or TokenizerError where it cannot be used."""
    model, report = read_model(folder)
    return Oracle(folder, model.to(pick_device()), load_tokenizer(folder), report)


def answer(oracle: Oracle, questions: Sequence[Question], *, top_k: int) -> list[dict[str, Any]]:
    """Return an answer to each question, in order."""
    answers: list[dict[str, Any]] = [{} for _ in questions]
    masked = [(place, text) for place, text in enumerate(questions) if isinstance(text, str)]
    pairs = [(place, pair) for place, pair in enumerate(questions) if isinstance(pair, tuple)]
    if masked:
        require_head(oracle, "mlm_head", "masked-token")
        guesses = fill_masks(oracle.model, oracle.tokenizer, [text for _, text in masked], top_k=top_k)
        for (place, text), words in zip(masked, guesses, strict=True):
            answers[place] = {"text": text, "predictions": words}
    if pairs:
        require_head(oracle, "nsp_head", "next-sentence")
        shares = next_sentence(oracle.model, oracle.tokenizer, [pair for _, pair in pairs])
        for (place, (first, second)), share in zip(pairs, shares, strict=True):
            answers[place] = {"first": first, "second": second, "next": share}
    return answers


def require_head(oracle: Oracle, part: str, name: str) -> None:
    """Raise ModelError where the head was not in the folder: its answers would be noise."""
    if any(missing.startswith(part) for missing in oracle.report.initialised):
        raise ModelError(f"{oracle.folder} has no {name} head; give a folder pre-trained with one")


def print_answers(answers: Iterable[dict[str, Any]]) -> None:
    """Print answers as one table for masked words and one for pairs."""
    answers = list(answers)
    words = [
        [_with_number(line["text"], number, len(line["predictions"])), *(f"{word} {p:.1%}" for word, p in guesses)]
        for line in answers
        if "text" in line
        for number, guesses in enumerate(line["predictions"], start=1)
    ]
    if len(words) == 1:
        best = [cell.rsplit(" ", 1) for cell in words[0][1:]]
        print_table(words[0][0], ["word", "probability"], best)
    elif words:
        print_table(f"what stands for {MASK}", ["text", *(str(i) for i in range(1, len(words[0])))], words)
    pairs = [
        [line["first"], line["second"], "yes" if line["next"] >= 0.5 else "no", f"{line['next']:.1%}"]
        for line in answers
        if "next" in line
    ]
    if pairs:
        print_table("does the second text follow the first?", ["first", "second", "next", "probability"], pairs)


def _with_number(text: str, number: int, count: int) -> str:
    return text if count == 1 else f"{text} (mask {number} of {count})"
