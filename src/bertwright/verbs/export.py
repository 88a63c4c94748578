"""Turns a model folder into an ONNX folder that runs without torch, checked against torch before it takes its place."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bertwright.corpus.builtin import python_docs
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.device import versions
from bertwright.errors import ModelError, UsageError
from bertwright.files import human_bytes, map_os_errors, read_json, refuse_existing, write_json, written_aside
from bertwright.hub.crf_file import CRF
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder
from bertwright.hub.encoder_folder import EXTRA_TOKENIZER_FILES, read_model
from bertwright.hub.nsp_folder import lacks_head
from bertwright.hub.onnx.onnx_folder import ABOUT, MODEL, SAME_EVERYWHERE, OnnxFolder, open_onnx, require
from bertwright.hub.sentence_folder import read_sentence_folder
from bertwright.hub.sentence_layout import encoder_folder, is_sentence_folder
from bertwright.hub.task_folder import fine_tuned_part, read_fine_tuned
from bertwright.inference.batching import Forward, cpu_policy, in_batches, logits_of
from bertwright.inference.evaluate_task import read_pairs_of_texts
from bertwright.inference.scoring import task_forward
from bertwright.log import Block, Facts, Table, note
from bertwright.model.encoder import SEQUENCE_HEADS, Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.result import Result
from bertwright.rng import stream
from bertwright.tasks.by_name import task_of_head
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.metrics import cosines
from bertwright.tasks.embedding.task import evaluate_vectors
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

PROBED = 256
"""Texts the export is checked on where no file is given."""
SHOWN = 64
"""Rows on which the values to be rounded are looked at."""
TIMED = 512
"""Rows the speed is measured on, best of three turns."""
GROUPS = (1, 2, 5, 24)
"""Rows of the batches by which the graph is checked against torch."""

Judge = Callable[[np.ndarray], EvalResult]
"""Judges the answers to all rows of a labelled file: logits [Q, outputs], or vectors [N, H]."""


@dataclass(frozen=True)
class Opened:
    """A model to export: the network in float32, and what onnx.json will say of its head."""

    folder: Path
    model: FineTuned | SentenceEncoder | Encoder
    tokenizer: Tokenizer
    about: dict[str, Any]

    @property
    def encoder(self) -> Encoder:
        """The encoder of the model."""
        return self.model if isinstance(self.model, Encoder) else self.model.encoder


def export(
    model: Path | str,
    out: Path | str,
    *,
    to: Literal["onnx"] = "onnx",
    quantize: Literal["int8"] | None = None,
    data: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Result:
    """Write a model in a form that other programs run, checked against torch before it is called done.

    The graph must give what torch gives, on real rows in batches of several sizes and lengths. The folder is there
    whole or not at all; what onnx.json holds is returned.

    Parameters
    ----------
    model
        Hugging Face BERT or ModernBERT folder: pre-trained, fine-tuned, or of sentence vectors.
    out
        Folder to write: model.onnx, onnx.json (inputs, outputs, labels), tokenizer.json, config.json.
    to
        onnx: a graph for onnxruntime and others; `predict` and `embed` run it without torch.
    quantize
        int8: multiply 8-bit integers; a table shows what that costs, in the figures of the task on `data` and in
        answers that change, and the speed it brings.
    data
        Labelled file to check and evaluate on, such as the dev file, for sentence vectors pairs or scored pairs;
        sentences of ours where not given.
    text_column
        Column of the text in the labelled file; found by its name where not given.
    pair_column
        Column of the second text of a pair.
    label_column
        Column of the label, score or tag.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    columns
        The four before this under the names of the settings: text, pair, label, encoding.

    Raises
    ------
    ModelError
        Where the graph differs from torch; OutputExistsError; UsageError where onnx is not installed.
    """
    if to != "onnx":
        raise UsageError(f"there is no way to export to {to!r}; give --to onnx")
    require("onnx")
    model, out = Path(model), Path(out)
    refuse_existing(out, instead="give another --out")
    opened = _open(model)
    flags = {"text": text_column, "pair": pair_column, "label": label_column, "encoding": encoding}
    given = dict(columns or {}) | {name: column for name, column in flags.items() if column is not None}
    rows, judge = _probe(opened, Path(data) if data else None, ColumnsConfig.model_validate(given))
    with map_os_errors(out.parent), written_aside(out) as folder:
        folder.mkdir()
        figures = _write_checked(opened, rows, folder)
        blocks: list[Block] = []
        if quantize:
            figures, table = _quantized(opened, folder, rows, judge)
            blocks.append(table)
    facts = {
        "size": human_bytes((out / MODEL).stat().st_size),
        "outputs": ", ".join(figures["outputs"]),
        "largest difference from torch": f"{figures['checked']['largest_difference_from_torch']:.1e}",
    }
    return Result(figures, Facts(f"exported: {out}, which runs without torch", facts), *blocks)


@kept_random_state()
def _open(folder: Path) -> Opened:
    if is_encoder_decoder(folder):
        raise UsageError(f"{folder} translates, which is not exported to ONNX; give an encoder")
    if is_sentence_folder(folder):
        return _open_sentence(folder)
    head: dict[str, Any] = {"part": None, "problem": "masked_words", "labels": []}
    if folder.is_dir() and fine_tuned_part(folder) is not None:
        found = read_fine_tuned(folder)
        network: FineTuned | Encoder = found.model
        head = {
            "part": found.model.part,
            "problem": found.problem,
            "labels": list(found.labels),
            "own": found.own,
            "max_length": found.max_length,
        }
    else:
        network, report = read_model(folder)
        if report.lacks("mlm_head"):
            raise lacks_head(folder, "masked-token", report)
        head["pairs"] = network.has_nsp_head and not report.initialised
    opened = Opened(folder, network, load_tokenizer(folder), head)
    head.setdefault("max_length", opened.encoder.config.max_positions)
    return opened


def _open_sentence(folder: Path) -> Opened:
    encoder, reading = read_sentence_folder(folder)
    if reading.skip:
        raise ModelError(
            f"{folder} leaves the tokens of its prompt out of its vectors (include_prompt false), which is not "
            "exported to ONNX; ask the folder itself"
        )
    model = SentenceEncoder(encoder, pooling=reading.pooling, normalize=reading.normalize).eval()
    head = {
        "part": "vector",
        "problem": "sentence_vectors",
        "labels": [],
        "layer": model.layer,
        "pooling": reading.pooling,
        "normalize": reading.normalize,
        "max_length": reading.max_length,
        "prompt": reading.prompts.text,
    }
    return Opened(encoder_folder(folder), model, load_tokenizer(folder), head)


def _probe(opened: Opened, data: Path | None, columns: ColumnsConfig) -> tuple[LabelledRows, Judge | None]:
    """Return the rows to check by: those of a labelled file with what judges them, or sentences, for heads in pairs."""
    encoder = TextEncoder(
        opened.tokenizer, max_length=opened.about["max_length"], prompt=opened.about.get("prompt", "")
    )
    if data is not None and isinstance(opened.model, SentenceEncoder):
        pairs = read_pairs_of_texts(data, columns)
        rows = encoder.rows(pairs.texts, None, np.zeros(len(pairs.texts), dtype=np.int64))
        return rows, lambda vectors: evaluate_vectors(vectors, pairs)
    if data is not None:
        if not isinstance(opened.model, FineTuned):
            raise UsageError(f"{opened.folder} is no fine-tuned model, so --data has no labels it could be judged by")
        task = task_of_head(*(opened.about[name] for name in ("part", "problem", "labels", "own")))
        task = task.with_crf(opened.model.crf).with_columns(data, columns)
        encoded = task.encode(task.read(data), encoder)
        return encoded.rows, lambda logits: task.evaluate(logits, encoded.examples)
    texts = _sentences(opened.tokenizer)
    texts.append(" ".join(texts))  # as long as the model reads
    second = None if isinstance(opened.model, SentenceEncoder) else texts[::-1]
    rows = encoder.rows(texts, second, np.zeros(len(texts), dtype=np.int64), quiet=True)
    return rows if opened.about["part"] in (*SEQUENCE_HEADS, "vector") else _asked_within(rows, opened), None


def _sentences(tokenizer: Tokenizer) -> list[str]:
    """Return sentences of English prose and, since the model may read another language, runs of its own vocabulary."""
    paragraphs = (line for _, text in python_docs(()) for line in text.splitlines() if len(line) > 20)
    prose = list(islice(paragraphs, PROBED // 2))
    random = stream("export probe", 0)
    lengths = random.integers(1, 60, size=PROBED - len(prose))
    runs = [
        tokenizer.decode(random.integers(tokenizer.vocab_size, size=length).tolist()) for length in lengths.tolist()
    ]
    return [*prose, *(run or "-" for run in runs)]


def _asked_within(rows: LabelledRows, opened: Opened) -> LabelledRows:
    """Return the rows asked about at every token, or for masked words at every sixth, which is masked."""
    step = 1 if isinstance(opened.model, FineTuned) else 6
    within = np.arange(len(rows.ids)) - np.repeat(np.cumsum(rows.lengths) - rows.lengths, rows.lengths)
    chosen = within % step == step - 1
    ids = rows.ids.copy()
    if step > 1:
        ids[chosen] = opened.tokenizer.special.mask
    counts = np.add.reduceat(chosen, np.cumsum(rows.lengths) - rows.lengths)
    kept = counts > 0  # a row of fewer tokens is asked about its first
    chosen[(np.cumsum(rows.lengths) - rows.lengths)[~kept]] = True
    return LabelledRows(
        ids=ids,
        lengths=rows.lengths,
        first_lengths=rows.first_lengths,
        positions=within[chosen],
        num_targets=np.maximum(counts, 1),
        targets=np.zeros(int(chosen.sum()), dtype=np.int64),
        pad=rows.pad,
    )


def _write_checked(opened: Opened, rows: LabelledRows, folder: Path) -> dict[str, Any]:
    """Write all files of the folder; raise ModelError where the graph does not give what torch gives."""
    from bertwright.hub.onnx.graphs import write_model

    axes = write_model(opened.model, folder / MODEL, pairs=opened.about.get("pairs", False))
    opened.tokenizer.write(folder)
    for name in ("config.json", CRF, *EXTRA_TOKENIZER_FILES):
        if (opened.folder / name).is_file():
            shutil.copyfile(opened.folder / name, folder / name)
    about = {**opened.about, **axes, "quantized": None, "made_with": _versions()}
    write_json(folder / ABOUT, about)
    largest, batches = _largest_difference(opened, open_onnx(folder), rows)
    about |= {"checked": {"largest_difference_from_torch": largest, "batches": batches}}
    write_json(folder / ABOUT, about)
    shown = ", ".join(f"{count} x {length}" for count, length in batches)
    note(f"largest difference from torch {largest:.1e}, in batches of {shown}")
    return about


def _largest_difference(opened: Opened, exported: OnnxFolder, rows: LabelledRows) -> tuple[float, list[list[int]]]:
    """Compare the graph with torch in batches of several sizes: the shortest and longest rows, and mixed ones."""
    from bertwright.hub.onnx.graphs import graph_difference, reference

    order = np.argsort(rows.lengths, kind="stable")
    mixed = stream("export check", 0).permutation(len(rows))
    groups = [order[:1], order[-1:], *np.split(mixed, np.cumsum(GROUPS))[: len(GROUPS)]]
    largest, batches = 0.0, []
    for group in (group for group in groups if len(group)):
        arrays = rows.arrays(group)
        said = exported.run(arrays)
        ours = [exported.ask(arrays), *said[1:]]
        for one, other in zip(reference(opened.model, arrays), ours, strict=True):
            off, near = graph_difference(one, other)
            if not near:
                raise ModelError(
                    f"the ONNX graph of {opened.folder} differs from torch by {off:.1e} on rows "
                    f"{list(arrays['input_ids'].shape)}, so nothing was written; try another onnxruntime"
                )
            largest = max(largest, off)
        batches.append(list(arrays["input_ids"].shape))
    return largest, batches


def _quantized(opened: Opened, folder: Path, rows: LabelledRows, judge: Judge | None) -> tuple[dict[str, Any], Table]:
    """Put 8-bit integers in the place of the float graph; return onnx.json, and what that costs and brings."""
    from bertwright.hub.onnx.int8 import quantize_int8

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        kept = Path(scratch)
        for name in (MODEL, ABOUT):
            shutil.copyfile(folder / name, kept / name)
        before = open_onnx(kept)
        shown = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(np.int64)
        quantize_int8(kept / MODEL, folder / MODEL, [before.inputs(rows.arrays(shown))])
        after = open_onnx(folder)
        sides: dict[str, Forward[np.ndarray]] = {"ONNX float32": before.ask, "ONNX int8": after.ask}
        if not isinstance(opened.model, Encoder):
            sides = {"torch float32": task_forward(opened.model, device=torch.device("cpu")), **sides}
        speeds = sentences_a_second(sides, rows)
        losses = _score_lost(before, after, rows, judge)
        sizes = [(one / MODEL).stat().st_size for one in (kept, folder)]
    about: dict[str, Any] = read_json(folder / ABOUT)
    about |= {"quantized": "int8", SAME_EVERYWHERE: True, "bytes": sizes, "rows_a_second": speeds, **losses}
    write_json(folder / ABOUT, about)
    return about, _cost(speeds, losses, sizes)


def sentences_a_second(sides: dict[str, Forward[Any]], rows: LabelledRows, *, turns: int = 3) -> dict[str, float]:
    """Return rows a second of each side over some of the rows, best of several turns, the sides taking turns."""
    places = np.linspace(0, len(rows) - 1, min(TIMED, len(rows))).astype(np.int64)
    best = dict.fromkeys(sides, 0.0)
    for _ in range(turns):
        for name, ask in sides.items():
            began = time.perf_counter()
            for _ in in_batches(ask, rows, policy=cpu_policy(), places=places):
                pass
            best[name] = max(best[name], len(places) / (time.perf_counter() - began))
    return {name: round(value, 1) for name, value in best.items()}


def _score_lost(before: OnnxFolder, after: OnnxFolder, rows: LabelledRows, judge: Judge | None) -> dict[str, Any]:
    """Return the figures on labelled examples before and after, and how far the answers are still the same."""
    if before.part is None:
        return {"agreement": _agreement(_likeliest(before.ask), _likeliest(after.ask), rows)}
    old, new = (logits_of(one.ask, rows, policy=cpu_policy()) for one in (before, after))
    found: dict[str, Any] = {}
    if judge is not None:
        found["figures"] = {name: judge(logits).figures for name, logits in (("float32", old), ("int8", new))}
    if before.part == "vector":
        return found | {"mean_cosine": float(cosines(old, new).mean())}
    if before.part == "row" and before.problem == "multi_label_classification":
        return found | {"agreement": float(((old > 0) == (new > 0)).all(-1).mean())}
    if before.part == "token" or (before.part == "row" and before.problem != "regression"):
        return found | {"agreement": float((old.argmax(-1) == new.argmax(-1)).mean())}
    return found | {"largest_change": float(np.abs(old - new).max())}


def _likeliest(ask: Forward[np.ndarray]) -> Forward[np.ndarray]:
    """Return the ask whose answers are the likeliest words [B, M, 1] alone: logits of a vocabulary are many."""
    return lambda arrays: ask(arrays).argmax(-1)[..., None].astype(np.float32)


def _agreement(before: Forward[np.ndarray], after: Forward[np.ndarray], rows: LabelledRows) -> float:
    old, new = (logits_of(ask, rows, policy=cpu_policy()) for ask in (before, after))
    return float((old == new).mean())


def _cost(speeds: dict[str, float], losses: dict[str, Any], sizes: Sequence[int]) -> Table:
    """Return a row a figure, float32 beside int8."""
    rows = [[name, f"{of['float32']:.4f}", f"{of['int8']:.4f}"] for name, of in _by_name(losses.get("figures", {}))]
    if "agreement" in losses:
        rows.append(["answers that agree", "", f"{losses['agreement']:.2%}"])
    if "mean_cosine" in losses:
        rows.append(["mean cosine with float32", "", f"{losses['mean_cosine']:.4f}"])
    if "largest_change" in losses:
        rows.append(["largest change of a logit", "", f"{losses['largest_change']:.3f}"])
    rows.append(["rows a second", f"{speeds['ONNX float32']:,.0f}", f"{speeds['ONNX int8']:,.0f}"])
    if "torch float32" in speeds:
        times = [speeds[f"ONNX {kind}"] / speeds["torch float32"] for kind in ("float32", "int8")]
        rows.append(["times torch in float32", *(f"{value:.2f}" for value in times)])
    rows.append(["size of the file", *(human_bytes(size) for size in sizes)])
    return Table("8-bit integers", ["", "float32", "int8"], rows)


def _by_name(figures: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    names = list(figures.get("float32", {}))
    return [(name.replace("_", " "), {kind: figures[kind][name] for kind in figures}) for name in names]


def _versions() -> dict[str, str]:
    return versions() | {name: str(require(name).__version__) for name in ("onnx", "onnxruntime")}
