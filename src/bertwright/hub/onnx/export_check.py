"""Turns a model into a folder with its ONNX graph, checked against torch on real rows before it takes its place."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.corpus.builtin import python_docs
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.device import versions
from bertwright.errors import ModelError
from bertwright.files import write_json
from bertwright.hub.crf_file import CRF
from bertwright.hub.encoder_folder import EXTRA_TOKENIZER_FILES
from bertwright.hub.onnx.exportable import Exportable
from bertwright.hub.onnx.graphs import graph_difference, reference, write_model
from bertwright.hub.onnx.onnx_folder import ABOUT, MODEL, OnnxFolder, open_onnx, require
from bertwright.log import note
from bertwright.model.encoder import SEQUENCE_HEADS
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.rng import stream
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer

TEXTS = 256
"""Texts the export is checked on where no file is given."""
GROUPS = (1, 2, 5, 24)
"""Rows of the batches by which the graph is checked against torch."""


def text_encoder(exportable: Exportable) -> TextEncoder:
    """Return what turns texts into rows for a model, with its prompt, if it has one."""
    about = exportable.about
    return TextEncoder(exportable.tokenizer, max_length=about["max_length"], prompt=about.get("prompt", ""))


def sample_rows(exportable: Exportable) -> LabelledRows:
    """Return rows of sentences to check a model by, in pairs where its head reads pairs."""
    texts = _sentences(exportable.tokenizer)
    texts.append(" ".join(texts))  # as long as the model reads
    second = None if isinstance(exportable.model, SentenceEncoder) else texts[::-1]
    rows = text_encoder(exportable).rows(texts, second, np.zeros(len(texts), dtype=np.int64), quiet=True)
    return rows if exportable.about["part"] in (*SEQUENCE_HEADS, "vector") else _with_positions(rows, exportable)


def _sentences(tokenizer: Tokenizer) -> list[str]:
    """Return sentences of English prose and, since the model may read another language, runs of its vocabulary."""
    paragraphs = (line for _, text in python_docs(()) for line in text.splitlines() if len(line) > 20)
    prose = list(islice(paragraphs, TEXTS // 2))
    random = stream("export probe", 0)
    lengths = random.integers(1, 60, size=TEXTS - len(prose))
    runs = [
        tokenizer.decode(random.integers(tokenizer.vocab_size, size=length).tolist()) for length in lengths.tolist()
    ]
    return [*prose, *(run or "-" for run in runs)]


def _with_positions(rows: LabelledRows, exportable: Exportable) -> LabelledRows:
    """Return the rows with every token wanted, or for masked words every sixth, which is masked."""
    step = 1 if isinstance(exportable.model, FineTuned) else 6
    starts = np.cumsum(rows.lengths) - rows.lengths
    within = np.arange(len(rows.ids)) - np.repeat(starts, rows.lengths)
    chosen = within % step == step - 1
    ids = rows.ids.copy()
    if step > 1:
        ids[chosen] = exportable.tokenizer.special.mask
    counts = np.add.reduceat(chosen, starts)
    chosen[starts[counts == 0]] = True  # of a row of fewer tokens the first is wanted
    return LabelledRows(
        ids=ids,
        lengths=rows.lengths,
        first_lengths=rows.first_lengths,
        positions=within[chosen],
        num_targets=np.maximum(counts, 1),
        targets=np.zeros(int(chosen.sum()), dtype=np.int64),
        pad=rows.pad,
    )


def write_checked(exportable: Exportable, rows: LabelledRows, folder: Path) -> dict[str, Any]:
    """Write all files of the folder, and return what onnx.json holds; ModelError where the graph differs from torch."""
    axes = write_model(exportable.model, folder / MODEL, pairs=exportable.about.get("pairs", False))
    exportable.tokenizer.write(folder)
    for name in ("config.json", CRF, *EXTRA_TOKENIZER_FILES):
        if (exportable.folder / name).is_file():
            shutil.copyfile(exportable.folder / name, folder / name)
    made_with = versions() | {name: str(require(name).__version__) for name in ("onnx", "onnxruntime")}
    about = {**exportable.about, **axes, "quantized": None, "made_with": made_with}
    write_json(folder / ABOUT, about)
    largest, batches = _largest_difference(exportable, open_onnx(folder), rows)
    about |= {"checked": {"largest_difference_from_torch": largest, "batches": batches}}
    write_json(folder / ABOUT, about)
    shown = ", ".join(f"{count} x {length}" for count, length in batches)
    note(f"largest difference from torch {largest:.1e}, in batches of {shown}")
    return about


def _largest_difference(
    exportable: Exportable, exported: OnnxFolder, rows: LabelledRows
) -> tuple[float, list[list[int]]]:
    """Compare the graph with torch in batches of several sizes: the shortest and longest rows, and mixed ones."""
    order = np.argsort(rows.lengths, kind="stable")
    mixed = stream("export check", 0).permutation(len(rows))
    groups = [order[:1], order[-1:], *np.split(mixed, np.cumsum(GROUPS))[: len(GROUPS)]]
    largest, batches = 0.0, []
    for group in (group for group in groups if len(group)):
        arrays = rows.arrays(group)
        outputs = [exported.logits(arrays), *exported.run(arrays)[1:]]
        computed = reference(exportable.model, arrays, pairs=exportable.about.get("pairs", False))
        for expected, output in zip(computed, outputs, strict=True):
            off, near = graph_difference(expected, output)
            if not near:
                raise ModelError(
                    f"the ONNX graph of {exportable.folder} differs from torch by {off:.1e} on rows "
                    f"{list(arrays['input_ids'].shape)}, so nothing was written; try another onnxruntime"
                )
            largest = max(largest, off)
        batches.append(list(arrays["input_ids"].shape))
    return largest, batches
