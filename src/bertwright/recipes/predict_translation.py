"""Asks an encoder-decoder what texts say in its other language, and judges what it answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bertwright.data.paired import PairedRows
from bertwright.errors import CorpusError, UsageError
from bertwright.evaluate.translating import translate_rows, translation_loss
from bertwright.evaluate.translations import score_texts
from bertwright.export.encoder_decoder import TranslationFolder, is_encoder_decoder, read_encoder_decoder
from bertwright.files import write_text
from bertwright.log import note, print_facts, print_table
from bertwright.tasks.encode import TextEncoder
from bertwright.tasks.parallel import Parallel, SidesConfig, read_lines
from bertwright.tasks.translate import Translate
from bertwright.train.precision import pick_device

STDIN = Path("-")


def predict_translations(
    folder: Path, texts: Sequence[str], *, input: Path | None, output: Path | None
) -> list[dict[str, Any]]:
    """Translate texts and the lines of a file, or of stdin ("-"); return {"text", "translation"} of each, in order.

    Prints a translation a line, line n for line n, an empty one for an empty text; with `output` writes JSON lines.
    """
    asked = [*texts, *(_lines_of(Path(input)) if input else [])]
    if not any(text.strip() for text in asked):
        raise UsageError("nothing to translate: give a TEXT, or --input FILE with one a line")
    answers = [
        {"text": text, "translation": said} for text, said in zip(asked, translate_texts(folder, asked), strict=True)
    ]
    if output is not None:
        write_text(Path(output), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in answers))
        note(f"{len(answers):,} translations in {output}")
    else:
        sys.stdout.write("".join(f"{line['translation']}\n" for line in answers))
    return answers


def translate_texts(folder: Path, texts: Sequence[str]) -> list[str]:
    """Return what each text says in the other language, in float32; raises ModelError where the folder is not whole."""
    opened = read_encoder_decoder(folder)
    place_of = [place for place, text in enumerate(texts) if text.strip()]
    asked = [texts[place] for place in place_of]
    task, rows = _encoded(opened, Parallel(folder, asked, [""] * len(asked)))
    said = [""] * len(texts)
    for place, text in zip(place_of, _written(opened, task, rows), strict=True):
        said[place] = text
    return said


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
    said = _written(opened, task, rows)
    loss = translation_loss(opened.model, rows, device=pick_device())
    judged = task.judge(said, examples, loss=loss, mistakes=0)
    signatures = score_texts(["a"], ["a"], lowercase=task.lowercase).signatures
    print_facts(f"{folder} on {given}", {name: f"{value:.4f}" for name, value in judged.figures.items()} | signatures)
    if judged.grid is not None:
        print_table(judged.grid.title, judged.grid.header, judged.grid.rows)
    return judged.figures


def _encoded(opened: TranslationFolder, examples: Parallel) -> tuple[Translate, PairedRows]:
    task = Translate(opened.tokenizer, SidesConfig())
    positions = min(opened.model.encoder.config.max_positions, opened.model.decoder.config.max_positions)
    return task, task.encode(examples, TextEncoder(opened.tokenizer, max_length=positions))


def _written(opened: TranslationFolder, task: Translate, rows: PairedRows) -> list[str]:
    device: torch.device = pick_device()
    return task.texts(translate_rows(opened.model.to(device), rows, opened.rules, device=device))


def _lines_of(file: Path) -> list[str]:
    """Return every line of a file, or of stdin, empty ones too: line n of what is printed belongs to line n."""
    if file != STDIN:
        if not file.is_file():
            raise CorpusError(f"there is no file {file}; give one that exists, or - for stdin")
        return read_lines(file)
    lines = sys.stdin.read().split("\n")
    return lines[:-1] if not lines[-1] else lines
