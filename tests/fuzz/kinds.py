"""Every kind of file that bertwright reads from others, by name."""

from __future__ import annotations

import pyarrow as pa
from kind import Kind
from kinds_of_models import MODELS
from kinds_of_runs import RUNS
from kinds_of_texts import CORPORA, LABELLED

pa.array([""])
"""pyarrow looks for pandas when it makes its first array: 0.4 s here, and not in each process that is forked."""
KINDS: dict[str, Kind] = {**MODELS, **RUNS, **CORPORA, **LABELLED}
