"""Every kind of file that bertwright reads from others, by name."""

from __future__ import annotations

from kind import Kind
from kinds_of_models import MODELS
from kinds_of_runs import RUNS
from kinds_of_texts import CORPORA, LABELLED

KINDS: dict[str, Kind] = {**MODELS, **RUNS, **CORPORA, **LABELLED}
