"""Turns raw text, or a DATA folder, into a profile of it: what `doctor` makes findings of.

Of what is large a part is looked at, and the profile says how much: text from the front of up to 64 files spread over
the input, or documents spread over the shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.profile import Profile, Profiler
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_texts
from bertwright.corpus.readers.layouts import Layout, detect_layout
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.shards import Shards
from bertwright.corpus.survey import survey
from bertwright.errors import CorpusError
from bertwright.files import human_bytes
from bertwright.log import progress_bar
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

MOST_FILES = 64
HELD_OUT_BYTES = 8 << 20
"""Held-out text that is looked for among the training text, in bytes."""
BYTES_A_TOKEN = 4
DECODED = 500
"""Documents decoded at a time."""
COPIED = 0.5
"""Fraction of a held-out document's thirteen-word sequences from which it counts as standing in the training text."""


def examine_inputs(
    named: list[str], scratch: Path, wanted: Sequence[Overlap], *, most_bytes: int, options: ReadOptions,
    language: str | None, tokenizer: Tokenizer | None,
) -> Profile:  # fmt: skip
    """Return the profile of raw text, and look for the texts `wanted` in it; `scratch` is an empty folder.

    Raises CorpusError where nothing can be read.
    """
    found = find_texts(named, scratch)
    paths = found.files
    layout = detect_layout(paths, options)
    picked = [paths[i] for i in sorted({i * len(paths) // MOST_FILES for i in range(MOST_FILES)})]
    each = most_bytes // len(picked)
    refused = _refusals(picked, replace(options, skip_broken=False), layout, each)
    if len(refused) == len(paths):
        raise CorpusError(refused[0])
    corpus = survey(paths, options, layout=layout, language=language)
    encoder = BulkEncoder(tokenizer) if tokenizer else None
    profiler = Profiler(scratch / "seen" / "near", language=corpus.language.code, newline=corpus.newline)
    counts, tokens = profiler.found.counts, {"all": 0, "unknown": 0} if tokenizer else {}
    with progress_bar() as bar:
        task = bar.add_task("examining", total=min(most_bytes, corpus.text_bytes))
        for texts in _front_of_each(picked, options, layout, each):
            kept = profiler.look(texts)
            for overlap in wanted:
                overlap.look(kept)
            if encoder and tokenizer:
                ids = encoder.encode(kept.to_pylist())[0]
                tokens["all"] += len(ids)
                tokens["unknown"] += int((ids == tokenizer.special.unk).sum())
            bar.update(task, completed=counts["bytes"])
    files = f"{len(paths):,} file{'s' * (len(paths) > 1)}"
    files = files if len(picked) == len(paths) else f"{len(picked):,} of {files}"
    fraction = min(1.0, counts["bytes"] / max(1, corpus.text_bytes))
    looked_at = f"{human_bytes(counts['bytes'])} of text from {files}, {_about(fraction)}"
    return Profile(
        looked_at, False, corpus.language.code, profiler.found, tokens, files=len(picked), refused=refused,
        skipped=found.skipped,
    )  # fmt: skip


def _refusals(paths: list[TextFile], options: ReadOptions, layout: Layout | None, most: int) -> list[str]:
    """Return what `prepare` would say of the files that it would refuse, as far as they are looked into."""
    refused = []
    for path in paths:
        try:
            for _ in _front_of_each([path], options, layout, most):
                pass
        except CorpusError as error:
            refused.append(str(error))
    return refused


def _front_of_each(
    paths: list[TextFile], options: ReadOptions, layout: Layout | None, most: int
) -> Iterator[pa.StringArray]:
    """Yield documents from the front of each file, about `most` bytes of each."""
    for path in paths:
        taken = 0
        for batch in read_documents([path], options, layout=layout):
            yield batch.texts
            taken += batch.texts.nbytes
            if taken >= most:
                break


def examine_data(data: Path, scratch: Path, wanted: Sequence[Overlap], *, most_bytes: int) -> Profile:
    """Return the profile of a DATA folder: single sentences and unknown tokens in all of it, the rest in a part.

    That part is documents spread over it; the texts `wanted` are looked for there. Raises DataError where the folder
    is damaged.
    """
    manifest, tokenizer = read_manifest(data), load_tokenizer(data)
    train = Shards.open(data, "train")
    train.check(tokenizer.vocab_size)
    profiler = Profiler(scratch / "seen" / "near", language=manifest["language"], newline="paragraph")
    valid = Shards.open(data, "valid") if manifest["splits"].get("valid", {}).get("documents") else None
    held_out = Overlap(pa.concat_arrays(list(_decoded(valid, tokenizer, HELD_OUT_BYTES)))) if valid else None
    counts = profiler.found.counts
    with progress_bar() as bar:
        task = bar.add_task("examining", total=min(most_bytes, train.token_count * BYTES_A_TOKEN))
        for texts in _decoded(train, tokenizer, most_bytes):
            kept = profiler.look(texts, count_sentences=False)
            for overlap in [*wanted, *([held_out] if held_out else [])]:
                overlap.look(kept)
            bar.update(task, completed=counts["bytes"])
    for shard in train.shards:
        counts["one_sentence"] += int((np.diff(shard.sentence_offsets) <= 1).sum())
    counts["all_documents"] = train.document_count
    unknown = sum(int((shard.tokens == tokenizer.special.unk).sum()) for shard in train.shards)
    vocabulary = manifest["tokenizer"]
    copied = (held_out.found_fractions()[held_out.sequences > 0] >= COPIED).mean() if held_out else None
    return Profile(
        f"{counts['documents']:,} of {train.document_count:,} documents, "
        f"{_about(counts['documents'] / max(1, train.document_count))}; single sentences and unknown tokens: all",
        True, manifest["language"], profiler.found, {"all": train.token_count, "unknown": unknown},
        trained_vocabulary=0 if vocabulary["kind"] in ("given", "extended") else vocabulary["vocab_size"],
        held_out=None if copied is None else float(copied),
    )  # fmt: skip


def _decoded(shards: Shards, tokenizer: Tokenizer, most: int) -> Iterator[pa.StringArray]:
    """Yield the text of documents spread evenly over a split, about `most` bytes together."""
    fraction = min(1.0, most / max(1, shards.token_count * BYTES_A_TOKEN))
    count = max(1, round(shards.document_count * fraction))
    picked = np.unique(np.linspace(0, shards.document_count - 1, count).round().astype(np.int64))
    for start in range(0, len(picked), DECODED):
        ids = [shards.tokens(int(document)).tolist() for document in picked[start : start + DECODED]]
        yield pa.array(tokenizer.backend.decode_batch(ids, skip_special_tokens=False), pa.string())


def _about(fraction: float) -> str:
    return "all of it" if fraction > 0.99 else f"about {fraction:.1%} of it"
