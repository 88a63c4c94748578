"""Counts requests and batches, and writes the counts as Prometheus reads them, under the names of TEI (te_*)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

DURATIONS = tuple(0.00001 * 1.5**power for power in range(1, 36))
"""Upper ends of the buckets of durations, in seconds: 15 microseconds to 14 seconds, as TEI has them."""
SIZES = tuple(float(2**power) for power in range(21))
"""Those of counts: of questions, of tokens."""
DURATION = "te_request_duration"
PARTS = ("tokenization", "queue", "inference")


class Histogram:
    """How many values lie below each bound, their number and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Start empty."""
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Return the lines of a histogram called `name`."""
        found, below = [f"# TYPE {name} histogram"], 0
        for bound, count in zip((*(f"{bound:g}" for bound in self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*found, f"{name}_sum {self.total:g}", f"{name}_count {below}"]


class Metrics:
    """All counts of a server; they are written by the event loop and by the threads of the batcher."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._lock = threading.Lock()
        self.counters: Counter[tuple[str, str]] = Counter()
        parts = (f"te_request_{part}_duration" for part in PARTS)
        self.histograms = {name: Histogram(DURATIONS) for name in (DURATION, *parts)} | {
            name: Histogram(SIZES) for name in ("te_request_input_length", "te_batch_next_size", "te_batch_next_tokens")
        }

    def count(self, name: str, label: str, value: str) -> None:
        """Count one more of a name and label."""
        with self._lock:
            self.counters[name, f'{label}="{value}"'] += 1

    def add(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        with self._lock:
            self.histograms[name].add(value)

    def answered(self, seconds: float, parts: Sequence[float], tokens: float) -> None:
        """Add the seconds that a request took, those of its PARTS, and the mean length of its texts."""
        with self._lock:
            self.histograms[DURATION].add(seconds)
            for part, value in zip(PARTS, parts, strict=True):
                self.histograms[f"te_request_{part}_duration"].add(value)
            self.histograms["te_request_input_length"].add(tokens)

    def batch(self, size: int, tokens: int) -> None:
        """Count a batch."""
        self.add("te_batch_next_size", size)
        self.add("te_batch_next_tokens", tokens)

    def dropped(self) -> None:
        """Count a question that nobody waited for any more."""
        self.count("te_request_failure", "err", "dropped")

    def text(self, *, queue: int) -> str:
        """Return everything as Prometheus reads it; `queue` questions wait."""
        lines = ["# TYPE te_queue_size gauge", f"te_queue_size {queue}"]
        with self._lock:
            named = ""
            for (name, label), count in sorted(self.counters.items()):
                if name != named:
                    lines.append(f"# TYPE {name} counter")
                    named = name
                lines.append(f"{name}{{{label}}} {count}")
            for name, histogram in self.histograms.items():
                lines += histogram.lines(name)
        return "\n".join(lines) + "\n"
