"""Asks an encoder-decoder what texts say in its other language, and judges what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from bertwright.corpus.readers.formats import is_table
from bertwright.corpus.readers.lines import STDIN, LineStream
from bertwright.corpus.readers.table import Start, TableStream
from bertwright.data.labelled.paired import PairedRows
from bertwright.device import pick_device
from bertwright.errors import UsageError
from bertwright.hub.encoder_decoder_folder import TranslationFolder, is_encoder_decoder, read_encoder_decoder
from bertwright.inference.translating import translate_rows, translation_loss
from bertwright.log import print_facts, print_table
from bertwright.tasks.stream import choose_column, stream_options
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import score_texts
from bertwright.tasks.translation.reader import SOURCES, TARGETS, Parallel, SidesConfig
from bertwright.tasks.translation.task import Translate

CHUNK = 1024
"""Lines translated together: enough to find texts of like length."""


def open_translations(
    folder: Path, texts: Sequence[str], *, input: Path | None, column: str | None = None, encoding: str | None = None
) -> tuple[Iterator[list[dict[str, Any]]], LineStream | TableStream | None]:
    """Return {"text", "translation"} of texts, of the lines of a file or stdin ("-") or the rows of a table, in order.

    Line n answers line n: an empty text has an empty translation. `column` names that of a table; without it that is
    `source`, or the one of text. With them comes what is read, which says how much has been. Raises UsageError where
    nothing is asked, and ModelError where the folder is not whole.
    """
    if input is None and not any(text.strip() for text in texts):
        raise UsageError("nothing to translate: give a TEXT, or --input FILE with one a line")
    if input is not None and column is not None and not _is_table(input):
        raise UsageError(f"{input} holds a text a line and has no columns; leave --text-column out")
    opened = read_encoder_decoder(folder)
    given: list[list[str]] = [list(texts)] if texts else []
    if input is not None and _is_table(input):
        options = stream_options(*SOURCES, *TARGETS, column, encoding=encoding)
        table = TableStream(input, lambda start: (_source(start, column),), options)
        pieces = (cells[at : at + CHUNK] for (cells,) in table for at in range(0, len(cells), CHUNK))
        return (_answers(opened, chunk) for chunk in chain(given, pieces)), table
    lines = None if input is None else LineStream(input, most=CHUNK, encoding=encoding)
    return (_answers(opened, chunk) for chunk in chain(given, lines or ())), lines


def _is_table(input: Path) -> bool:
    return input != STDIN and is_table(input)


def _source(start: Start, told: str | None) -> str:
    """Return the column of what is translated: the one told, else one of a usual name, else the only one of text."""
    lower = {name.strip().lower(): name for name in reversed(start.table.columns)}
    return choose_column(start, told or next((lower[name] for name in SOURCES if name in lower), None))


def translate_texts(folder: Path, texts: Sequence[str]) -> list[str]:
    """Return what each text says in the other language, in float32; raises ModelError where the folder is not whole."""
    return [line["translation"] for line in _answers(read_encoder_decoder(folder), texts)]


def _answers(opened: TranslationFolder, texts: Sequence[str]) -> list[dict[str, Any]]:
    texts = [text.strip() for text in texts]
    asked = [text for text in texts if text]
    task, rows = _encoded(opened, Parallel(STDIN, asked, [""] * len(asked)))
    translations = iter(_written(opened, task, rows) if asked else ())
    return [{"text": text, "translation": next(translations) if text else ""} for text in texts]


def evaluate_translation(folder: Path, given: Path, sides: SidesConfig) -> dict[str, float]:
    """Return BLEU, chrF and loss of a model on parallel text, in float32, and print them with their signatures.

    Raises UsageError where the model does not translate, and InputError as `finetune` does.
    """
    if not is_encoder_decoder(folder):
        raise UsageError(f"{folder} does not translate; give a folder that `finetune translate` wrote as RUN/model")
    opened = read_encoder_decoder(folder)
    task = Translate(opened.tokenizer, sides)
    examples = task.read(given)
    task, rows = _encoded(opened, examples)
    translations = _written(opened, task, rows)
    loss = translation_loss(opened.model, rows, device=pick_device())
    result = task.evaluate(translations, examples, loss=loss, mistakes=0)
    signatures = score_texts(["a"], ["a"], lowercase=task.lowercase).signatures
    print_facts(f"{folder} on {given}", {name: f"{value:.4f}" for name, value in result.figures.items()} | signatures)
    if result.table is not None:
        print_table(result.table.title, result.table.header, result.table.rows)
    return result.figures


def _encoded(opened: TranslationFolder, examples: Parallel) -> tuple[Translate, PairedRows]:
    task = Translate(opened.tokenizer, SidesConfig())
    positions = min(opened.model.encoder.config.max_positions, opened.model.decoder.config.max_positions)
    return task, task.encode(examples, TextEncoder(opened.tokenizer, max_length=positions)).rows


def _written(opened: TranslationFolder, task: Translate, rows: PairedRows) -> list[str]:
    device: torch.device = pick_device()
    return task.texts(translate_rows(opened.model.to(device), rows, opened.rules, device=device))
