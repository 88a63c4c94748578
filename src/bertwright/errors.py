"""The tree of errors: everything bertwright raises on purpose, and the exit code each one ends a command with.

    BertwrightError            1   the work failed; the message is one sentence a person can act on
    ├── UsageError             2   invalid command line, or arguments that do not fit together
    │   └── ConfigError        2   a recipe file or a --SECTION.FIELD that does not fit its section
    ├── InputError             1   something handed to us cannot be used
    │   ├── CorpusError            raw text: missing, empty, broken, of a wrong column
    │   ├── TokenizerError         a tokenizer that cannot be read or does not fit
    │   ├── DataError              a DATA folder that is damaged, of another version, or too poor for the objective
    │   └── ModelError             a MODEL or RUN folder that cannot be read or does not fit the data
    ├── OutputExistsError      1   the place to write to is taken
    ├── BusyError              1   another process works in the same folder
    ├── DiskSpaceError         1   the disk cannot hold what the work will write, or what it writes
    ├── ReadOnlyError          1   the place to write to cannot be written
    ├── WorkerError            1   a process that works for this one died
    ├── TrainingError          1   training cannot go on
    │   ├── OutOfMemoryError       a step takes more memory than there is
    │   └── DivergedError          its weights or its loss have grown beyond all bounds
    │       └── NotFiniteError         a loss, a gradient or a weight is no number
    ├── WorkerLostError        1   another process of the run is gone
    └── Interrupted          130   stopped by Ctrl-C; what was done is saved
        └── Terminated       143   stopped by SIGTERM or SIGHUP; what was done is saved

A message says what was wrong, what was expected, and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertwright.result import Shown


class BertwrightError(Exception):
    """The work failed; `str(error)` is the whole story for a person."""

    exit_code = 1
    quiet = False
    """Whether another process of the run says it."""
    result: Shown | None = None
    """What was found before it failed; the command line prints that too."""


class UsageError(BertwrightError):
    """Invalid command line, or arguments that do not fit together."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe file or an override does not fit its section."""


class InputError(BertwrightError):
    """Something handed to us cannot be used."""


class CorpusError(InputError):
    """Raw text that is missing, empty, broken, or of a wrong column."""


class TokenizerError(InputError):
    """A tokenizer that cannot be read or does not fit the data or the model."""


class DataError(InputError):
    """A DATA folder that is damaged, of another version, or too poor for the objective."""


class ModelError(InputError):
    """A MODEL or RUN folder that cannot be read or does not fit the data."""


class OutputExistsError(BertwrightError):
    """The place to write to is taken."""


class BusyError(BertwrightError):
    """Another process works in the same folder."""


class DiskSpaceError(BertwrightError):
    """The disk cannot hold what the work will write, or what it is writing."""


class ReadOnlyError(BertwrightError):
    """The place to write to cannot be written."""


class WorkerError(BertwrightError):
    """A process that works for this one died."""


class TrainingError(BertwrightError):
    """The loss is no longer a number, or climbs and climbs, or there was no time for a single step."""


class OutOfMemoryError(TrainingError):
    """A step takes more memory than there is; the message says how many rows at a time would fit."""


class DivergedError(TrainingError):
    """The weights or the loss have grown beyond all bounds; `happened` says so without advice."""

    def __init__(self, happened: str) -> None:
        """Add what to do about it."""
        super().__init__(f"{happened}; lower --learning-rate or lengthen --warmup")
        self.happened = happened


class NotFiniteError(DivergedError):
    """The loss, the gradient or the weights of a step are not finite."""


class WorkerLostError(BertwrightError):
    """Another process of the run is gone, or gives no answer."""


class Interrupted(BertwrightError):
    """Stopped by Ctrl-C; what was done is saved."""

    exit_code = 130


class Terminated(Interrupted):
    """Stopped by SIGTERM, or by SIGHUP (a closed terminal, a dropped connection); what was done is saved."""

    exit_code = 143


OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Words of torch's errors where the CPU's or the GPU's memory is used up; by these, since torch may not be loaded."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is used up: torch's, also as its compiler passes it on, or Python's.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    True
    """
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def is_panic(error: BaseException) -> bool:
    """Return whether an error is the panic of a library in Rust, which is no Exception."""
    return type(error).__name__ == "PanicException"


def is_native_failure(error: BaseException) -> bool:
    """Return whether an error is one that a library raises for what it cannot use: any Exception, or a panic."""
    return isinstance(error, Exception) or is_panic(error)
