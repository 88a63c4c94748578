"""Runs commands as `python -m bertwright ...` does, each forked from this process, which has imported the libraries.

That saves some three seconds a command, and pictures, of which the labels are written and nothing is drawn, another one
for each run. It reads a JSON object a line: the words of the command, the folder to run it in, the files for what it
prints; and answers with the exit code. Nothing of bertwright is imported before the fork.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import os
import runpy
import sys
import traceback
from contextlib import suppress
from typing import IO, Any
from unittest.mock import patch

LIBRARIES = (
    *("torch", "torch._dynamo", "torch.distributed", "torch.distributed.checkpoint", "safetensors.torch", "numpy"),
    *("pyarrow", "pyarrow.csv", "pyarrow.json", "pyarrow.ipc", "pyarrow.parquet", "tokenizers", "tokie", "fsspec"),
    *("scipy.stats", "sklearn.metrics", "sacrebleu", "matplotlib.pyplot", "onnx", "onnxruntime"),
    *("pydantic", "cyclopts", "rich.console", "rich.table", "rich.progress", "filelock", "tomli_w"),
)
"""What commands import, as far as it is there; what is left out is imported by the commands themselves."""


def main() -> None:
    """Answer commands until there are no more."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    with suppress(ImportError):
        write_labels_alone()
    inspect.getmodule(main.__code__)  # looks through all modules once, which every command would do for pydantic
    gc.freeze()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(run(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), file=answers, flush=True)


def write_labels_alone() -> None:
    """Let matplotlib write the labels of a picture alone, as the comments it makes of them in an SVG."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    def write(figure: Figure, file: IO[str], **_: Any) -> None:
        labels = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
        file.write(f"<svg>{''.join(f'<!-- {label} -->' for label in labels if label)}</svg>")

    patch.object(Figure, "savefig", write).start()


def run(requested: dict[str, Any]) -> int:
    """Run a command in this process, and return its exit code."""
    os.chdir(requested["folder"])
    for stream, path in ((0, os.devnull), (1, requested["stdout"]), (2, requested["stderr"])):
        opened = os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, stream)
    sys.argv = ["bertwright", *requested["words"]]
    try:
        runpy.run_module("bertwright", run_name="__main__", alter_sys=True)
        code: Any = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(OSError):
        sys.stdout.flush()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    main()
