"""Asks a model what its head is for: the word behind a [MASK], whether one text follows another, or its task.

Nothing here imports torch before a model needs it: an exported one does not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import OutputExistsError, UsageError
from bertwright.files import map_os_errors, written_aside
from bertwright.hub.onnx.onnx_folder import is_onnx_folder
from bertwright.inference.embed_predictor import similarities_with
from bertwright.inference.embedder import open_embedder
from bertwright.inference.input_files import InputFile, ReadsFile
from bertwright.inference.inputs_of_predict import Located, Question, answers_of, masked_questions, task_questions
from bertwright.inference.onnx_predictor import open_exported
from bertwright.inference.task_predictor import open_task, print_task_answers
from bertwright.inference.text_rows import MASK
from bertwright.log import note, person_reads, print_lines, print_table, progress_bar
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.device import Precision
    from bertwright.hub.encoder_folder import LoadReport
    from bertwright.model.encoder import Encoder

CHUNK = 4096
"""Questions answered together: enough to find texts of like length, few enough for any memory."""
NOTED = 10.0
"""Seconds between notes of progress where there is no terminal."""

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class PretrainedModel:
    """A model, its tokenizer, and what of it was read from the folder."""

    folder: Path
    model: Encoder
    tokenizer: Tokenizer
    report: LoadReport


@dataclass(frozen=True)
class Answerer:
    """A model ready to be asked.

    part    what its head is about; None where it fills masks and judges pairs
    answer  what answers questions, in order
    pairs   whether it has learned from pairs of texts; None where that is not known
    """

    part: str | None
    answer: Callable[[Sequence[Any]], Answers]
    pairs: bool | None = None

    def asked(self, file: Path, columns: ColumnsConfig, *, pair: bool = False) -> InputFile:
        """Return what a file asks it."""
        return InputFile(file, part=self.part, pairs=True if pair else self.pairs, told=columns)

    def questions(self, texts: Sequence[str], *, pair: bool, asked: Iterable[Located] = ()) -> Iterator[Question]:
        """Yield what the texts of a call and a file ask it, as it wants them."""
        if self.part is None:
            return masked_questions(texts, pair=pair, asked=asked)
        return task_questions(texts, pair=pair, asked=asked, part=self.part, pairs=self.pairs)


def predict(
    model: Path,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    output: Path | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
) -> Answers:
    """Answer questions with the model of a Hugging Face or ONNX folder; print them as a table, or write JSON lines.

    A fine-tuned model does what it was trained for, with texts or, with `pair`, two of them (see `open_task`),
    translates (see `open_translations`), or says how alike two texts are (see `similarities_with`).

    A text with [MASK] gives {"text", "predictions": for each [MASK] a list of [token, probability]}; a pair (two texts
    without [MASK], two texts with `pair`, or a line of `input` with a tab) gives {"first", "second", "next": the
    probability that the second follows}. `input` is a file of one question a line, a table of one a row (`text_column`
    and `pair_column` where the names of its columns do not say which they are), or "-" for stdin; the n-th answer is
    that of the n-th line or row. Raises UsageError where a text is neither, CorpusError where a file cannot be read,
    and ModelError where the model lacks the head asked for.

    `precision` "auto" gives the labels of float32, and probabilities within 0.02, most of them by bfloat16 where the
    processor has it. `predict_to_file` is for more answers than memory holds.
    """
    columns, answers = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding), Answers()
    chunks, read = ask(model, texts, pair=pair, input=input, columns=columns, top_k=top_k, precision=precision)
    if output is not None:
        write_answers(_kept(chunks, answers), Path(output), read=read)
        return answers
    for chunk in chunks:
        answers += chunk
        if "translation" in chunk[0]:
            print_translations(chunk)
    if not answers or "translation" in answers[0]:
        return answers
    (print_answers if "predictions" in answers[0] or "next" in answers[0] else print_task_answers)(answers)
    return answers


def predict_to_file(
    model: Path,
    texts: Sequence[str] = (),
    *,
    output: Path,
    pair: bool = False,
    input: Path | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
) -> int:
    """Write the answers of `predict` as they come, in the order of the questions and in bounded memory.

    The file is there whole or not at all; returns how many there are.
    """
    columns = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding)
    chunks, read = ask(model, texts, pair=pair, input=input, columns=columns, top_k=top_k, precision=precision)
    return write_answers(chunks, Path(output), read=read)


def ask(
    model: Path,
    texts: Sequence[str],
    *,
    pair: bool,
    input: Path | None,
    columns: ColumnsConfig,
    top_k: int,
    precision: Precision,
) -> tuple[Iterator[Answers], ReadsFile | None]:
    """Return the answers to what `predict` is asked, chunk after chunk, and what knows how much has been read."""
    texts = [replace_surrogates(text) for text in listed(texts)]
    if top_k < 1:
        raise UsageError(f"--top-k {top_k} asks for no words; give 1 or more")
    if translates(Path(model)):
        from bertwright.inference.translation_predictor import open_translations

        if columns.pair:
            raise UsageError("a model that translates takes single texts; leave --pair-column out")
        file = Path(input) if input else None
        return open_translations(Path(model), texts, input=file, column=columns.text, encoding=columns.encoding)
    if columns.names() and input is None:
        raise UsageError("--text-column and --pair-column name columns of a table; give one with --input FILE")
    opened = open_answers(Path(model), top_k=top_k, precision=precision)
    asked = opened.asked(Path(input), columns, pair=pair) if input else None
    questions = opened.questions(texts, pair=pair, asked=asked or ())
    first = next(questions, None)
    if first is None:
        example = "a TEXT" if opened.part else f'a TEXT such as "Paris is the {MASK} of France."'
        raise UsageError(f"nothing to answer: give {example}, or --input FILE with one a line")
    return map(opened.answer, _chunks(first, questions)), asked


def translates(folder: Path) -> bool:
    """Say whether the model of a folder translates."""
    if is_onnx_folder(folder):
        return False
    from bertwright.hub.encoder_decoder_folder import is_encoder_decoder

    return is_encoder_decoder(folder)


def open_answers(folder: Path, *, top_k: int, precision: Precision) -> Answerer:
    """Return the model of a folder, ready to answer questions; raises ModelError where it cannot be."""
    if is_onnx_folder(folder):
        return Answerer(*open_exported(folder, top_k=top_k))
    from bertwright.hub.nsp_folder import is_next_sentence_folder
    from bertwright.hub.sentence_layout import is_sentence_folder
    from bertwright.hub.task_folder import fine_tuned_part

    if is_sentence_folder(folder):
        return Answerer("vector", similarities_with(open_embedder(folder)), pairs=True)
    part = fine_tuned_part(folder) if folder.is_dir() else None
    if part is not None and not is_next_sentence_folder(folder):
        task, answer = open_task(folder, precision=precision)
        return Answerer(part, answer, pairs=task.pairs)
    return Answerer(None, partial(answer_masked, open_oracle(folder), top_k=top_k))


def _chunks(first: Question, others: Iterator[Question]) -> Iterator[list[Question]]:
    chunk = [first, *islice(others, CHUNK - 1)]
    while chunk:
        yield chunk
        chunk = list(islice(others, CHUNK))


def _kept(chunks: Iterable[Answers], kept: Answers) -> Iterator[Answers]:
    for chunk in chunks:
        kept += chunk
        yield chunk


def write_answers(chunks: Iterable[Answers], output: Path, *, read: ReadsFile | None) -> int:
    """Write answers as JSON lines, whole or not at all, with progress by how much of a file has been read."""
    count, began, noted = 0, time.monotonic(), time.monotonic()
    if output.is_dir():
        raise OutputExistsError(f"{output} is a folder; give --output a file")
    with (
        map_os_errors(output.parent),
        written_aside(output) as aside,
        aside.open("w", encoding="utf-8") as file,
        progress_bar("speed") as bar,
    ):
        task = bar.add_task("answers", total=None, speed="")
        for answers in chunks:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in answers)
            count += len(answers)
            now, done = time.monotonic(), None if read is None else read.progress
            speed = f"{count / max(1e-9, now - began):,.0f} a second"
            bar.update(task, completed=done or 0.0, total=None if done is None else 1.0, speed=speed)
            if now - noted > NOTED and not person_reads():
                left = f", {(now - began) * (1 / done - 1) / 60:.1f} min left" if done else ""
                note(f"{count:,} answers, {speed}{left}")
                noted = now
    note(f"{count:,} answers in {output}")
    return count


def open_oracle(folder: Path) -> PretrainedModel:
    """Read a model folder onto the fastest device; raises ModelError or TokenizerError where it cannot be used."""
    from bertwright.device import pick_device
    from bertwright.hub.encoder_folder import read_model
    from bertwright.hub.nsp_folder import is_next_sentence_folder, read_next_sentence
    from bertwright.model.random_state import kept_random_state

    with kept_random_state():
        model, report = (read_next_sentence if is_next_sentence_folder(folder) else read_model)(folder)
    return PretrainedModel(folder, model.to(pick_device()), load_tokenizer(folder), report)


def answer_masked(oracle: PretrainedModel, questions: Sequence[Question], *, top_k: int) -> Answers:
    """Return an answer to each question, in order."""
    from bertwright.inference.fill_mask import fill_masks
    from bertwright.inference.next_sentence import next_sentence

    def words(texts: list[str]) -> list[list[list[tuple[str, float]]]]:
        require_head(oracle, "masked-token")
        return fill_masks(oracle.model, oracle.tokenizer, texts, top_k=top_k)

    def shares(pairs: list[tuple[str, str]]) -> list[float]:
        require_head(oracle, "next-sentence")
        return next_sentence(oracle.model, oracle.tokenizer, pairs)

    return answers_of(questions, words=words, shares=shares)


def require_head(oracle: PretrainedModel, head: Literal["next-sentence", "masked-token"]) -> None:
    """Raise ModelError where the model has no such head, or its folder lacks the weights: answers would be noise."""
    from bertwright.hub.nsp_folder import lacks_head

    part = "nsp_head" if head == "next-sentence" else "mlm_head"
    if oracle.report.lacks(part) or (head == "next-sentence" and not oracle.model.has_nsp_head):
        raise lacks_head(oracle.folder, head, oracle.report)


def print_translations(answers: Answers) -> None:
    """Print a translation a line."""
    print_lines(line["translation"] for line in answers)


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
