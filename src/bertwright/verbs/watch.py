"""Shows runs while they train: curves, predictions and whether the loss is normal, on a page of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bertwright.errors import UsageError
from bertwright.files import refuse_existing, write_text
from bertwright.flags import with_flags
from bertwright.log import Facts
from bertwright.result import Result
from bertwright.verbs.calls.folder_kind import run_folders


@with_flags("watch")
def watch(
    run: Sequence[Path | str], *, host: str = "127.0.0.1", port: int = 8090, out: Path | str | None = None
) -> Result:
    """Show runs while they train, live on a page of this machine: curves, predictions, whether the loss is normal.

    Curves of several runs stand in one picture, along steps, tokens or minutes. Nothing of a run is changed, and one
    that is done is shown just as well. Ctrl-C ends it.

    Parameters
    ----------
    run
        RUN folders of pretrain, finetune or distill.
    host
        Address to listen at; 0.0.0.0 for every one of this machine. By default only this machine sees the page.
    port
        Port to listen at; 0 for any that is free.
    out
        Write the page once, to this .html file, which opens offline, and end.

    Raises
    ------
    InputError
        Where a folder is no run; UsageError where the address cannot be listened to, or the extra `serve` is missing.
    """
    from bertwright.types import listed  # which needs torch: --help does not wait for it

    folders = run_folders(listed(run, what="runs"))
    if not folders:
        raise UsageError("watch needs a RUN folder, or several")
    if out is not None:
        return write_once(folders, Path(out))
    missing = [name for name in ("starlette", "uvicorn", "msgspec") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a live page needs {' and '.join(missing)}: pip install 'bertwright[serve]'; or give --out FILE.html to "
            "write the page once"
        )
    from bertwright.verbs.calls.watching import serve_page

    return serve_page(folders, host=host, port=port)


def write_once(folders: Sequence[Path], out: Path) -> Result:
    """Write a page that opens offline; raises OutputExistsError where something else than a page is there."""
    from bertwright.reports.watching.run_curves import named_runs
    from bertwright.reports.watching.watch_page import offline_page

    if out.suffix != ".html":
        refuse_existing(out, instead="give --out FILE.html")
    write_text(out, offline_page(named_runs(folders)))
    return Result({"page": str(out), "runs": len(folders)}, Facts("written", {"page": str(out)}))
