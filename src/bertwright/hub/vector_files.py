"""Turns vectors that come a chunk at a time into a .parquet or .npy file, whole or not at all.

Parquet has a row a text: the text and its vector, a row group a chunk. A .npy file is the vectors alone, [N, H]; how
many they are its header says, which is corrected at the end: numpy leaves room in it for the number to grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from bertwright.errors import UsageError
from bertwright.files import written_aside

Number = Literal["float32", "float16"]
Put = Callable[[Sequence[str], np.ndarray], None]
"""Takes the texts of a chunk [n] and their vectors [n, H]."""
BESIDE_VALUES = 4096
"""Bytes of a file that are neither text nor vectors: header or footer."""


def writer_of(out: Path) -> Callable[[Path, int, Number], AbstractContextManager[Put]]:
    """Return what writes a file of the suffix of `out`; raises UsageError where there is no such format."""
    kind = WRITERS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"--out {out} should end in {' or '.join(WRITERS)}")
    return kind


def bytes_needed(out: Path, *, count: int, width: int, number: Number, text_bytes: int) -> int:
    """Return about how many bytes the vectors of `count` texts take, with their texts where those are written."""
    texts = text_bytes + 4 * count if out.suffix.lower() == ".parquet" else 0
    return count * width * np.dtype(number).itemsize + texts + BESIDE_VALUES


@contextmanager
def parquet_file(out: Path, width: int, number: Number) -> Iterator[Put]:
    """Yield what writes chunks of texts and vectors of `width` to a Parquet file, uncompressed: vectors are noise."""
    kind = pa.float16() if number == "float16" else pa.float32()
    schema = pa.schema({"text": pa.string(), "vector": pa.list_(kind, width)})
    with (
        written_aside(out) as aside,
        pa.parquet.ParquetWriter(aside, schema, compression="none", use_dictionary=False) as file,
    ):

        def put(texts: Sequence[str], vectors: np.ndarray) -> None:
            flat = pa.array(vectors.astype(number).reshape(-1), kind)
            columns = [pa.array(texts, pa.string()), pa.FixedSizeListArray.from_arrays(flat, width)]
            file.write_table(pa.table(columns, schema=schema))

        yield put


@contextmanager
def npy_file(out: Path, width: int, number: Number) -> Iterator[Put]:
    """Yield what writes chunks of vectors of `width` to a .npy file."""
    with written_aside(out) as aside, aside.open("wb") as file:
        count = 0

        def header() -> int:
            shape = {"descr": np.dtype(number).str, "fortran_order": False, "shape": (count, width)}
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, shape)
            return file.tell()

        def put(texts: Sequence[str], vectors: np.ndarray) -> None:
            nonlocal count
            file.write(np.ascontiguousarray(vectors, dtype=number).data)
            count += len(texts)

        begin = header()
        yield put
        if header() != begin:
            raise AssertionError("numpy did not leave room for the number of vectors in the header")


WRITERS: dict[str, Callable[[Path, int, Number], AbstractContextManager[Put]]] = {
    ".parquet": parquet_file,
    ".npy": npy_file,
}
"""By suffix."""
