"""Turns a model into one HTML file that shows its inside, and opens in any browser, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertwright.errors import OutputExistsError, UsageError
from bertwright.files import human_bytes, write_text
from bertwright.flags import with_flags
from bertwright.log import Facts, count_progress
from bertwright.result import Result


@with_flags("inspect")
def inspect(
    model: Path | str, out: Path | str, *, text: Sequence[str] = (), against: Path | str | None = None
) -> Result:
    """Write a page that shows the inside of a model: masked words, attention, hidden states, reasons; one HTML file.

    It opens offline in any browser, in English or Chinese as that prefers, and holds what was computed for some texts;
    for others `bertwright serve` answers at the same page. Returns the models, the texts, and the size of the file.

    Parameters
    ----------
    model
        Hugging Face folder of an encoder, pre-trained or fine-tuned; or a RUN folder. Snapshots of its run
        (pretrain --snapshots) are shown too.
    out
        The file, such as page.html; one that is there is replaced.
    text
        Texts to look at, with [MASK] where a word is to be guessed; a tab between the two texts of a pair. Where not
        given, some that fit the model.
    against
        A second model, shown beside the first on the same texts.

    Raises
    ------
    UsageError
        For a model of another kind, such as a translator or ONNX.
    InputError
        Where a text is empty, or longer than is shown.
    ModelError
        Where a folder is damaged.

    Examples
    --------
    >>> # needs a model
    >>> inspect("run/model", "page.html", text=["Return the [MASK] of the list."])  # doctest: +SKIP
    """
    from bertwright.inspection.inspector import open_inspector
    from bertwright.inspection.page import page_content, page_html
    from bertwright.types import listed

    file = Path(out)
    if file.is_dir():
        raise OutputExistsError(f"{file} is a folder; give --out a file such as {file / 'page.html'}")
    given = [tuple(one.split("\t")) for one in listed(text)]
    if several := next((one for one in given if len(one) > 2), None):
        raise UsageError(f"--text {several[0][:40]!r} has {len(several)} texts; give one, or two with a tab between")
    inspectors = [open_inspector(Path(model), texts=given)]
    if against is not None:
        inspectors.append(open_inspector(Path(against), texts=inspectors[0].texts))
    with count_progress("texts") as done:
        page = page_html(page_content(inspectors, done=lambda _: done(1, None)))
    write_text(file, page)
    names, texts = [one.model.name for one in inspectors], inspectors[0].texts
    size = len(page.encode())
    figures = {"out": str(file), "models": names, "texts": [list(one) for one in texts], "bytes": size}
    facts = {
        "models" if len(names) > 1 else "model": ", ".join(names),
        "texts": f"{len(texts):,}",
        "snapshots": f"{len(inspectors[0].snapshots):,}",
        "page": f"{file} ({human_bytes(size)}); open it in a browser",
    }
    return Result(figures, Facts("inspect", facts))
