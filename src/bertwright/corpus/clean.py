"""Turns documents as they were found into clean ones: repaired Unicode in NFC, no control characters, single blanks.

One regular expression of the RE2 engine screens whole arrays for anything to fix (500 MB/s or more), and only the
documents it finds are touched: fixing every document with ftfy would run at 4 MB/s, normalising every one at 110.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CONTINUATION = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
MOJIBAKE = (
    f"[\u0080-\u009f]|[Â-ß][{_CONTINUATION}]|[à-ï][{_CONTINUATION}][{_CONTINUATION}]"
    f"|ð[{_CONTINUATION}][{_CONTINUATION}][{_CONTINUATION}]"
)
"""UTF-8 read as Latin-1 or Windows-1252 shows a lead byte and then continuation bytes, such as Ã©, â€œ or ä½ ."""

MAYBE_NOT_NFC = (
    r"[\p{M}\x{0374}\x{037E}\x{0387}\x{0958}-\x{095F}\x{09DC}-\x{09DF}\x{0A33}-\x{0A5E}\x{0B5C}\x{0B5D}\x{0F43}-\x{0F69}"
    r"\x{1100}-\x{11FF}\x{1F71}-\x{1FFD}\x{2000}\x{2001}\x{2126}\x{212A}\x{212B}\x{2329}\x{232A}\x{2ADC}"
    r"\x{F900}-\x{FAD9}\x{FB1D}-\x{FB4E}\x{110BA}\x{11300}-\x{11FFF}\x{16D60}-\x{16D6F}\x{1D15E}-\x{1D1C0}"
    r"\x{2F800}-\x{2FA1D}]"
)
"""Every character that NFC can change, alone or after another (a test goes through all of Unicode)."""

_BLANK = " \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LINE_END = "\r\u000b\u000c\u0085\u2028\u2029"
_DROPPED = "\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u200b\u2060\ufeff\ufffe\uffff"
UNTIDY = f"[{_LINE_END}{_DROPPED}{_BLANK[1:]}]|  | \n|\n |\n\n\n|\\A[ \n]|[ \n]\\z"

_TIDYING = (
    (f"\r\n|[{_LINE_END}]", "\n"),
    (f"[{_DROPPED}]+", ""),
    (f"[{_BLANK}]{{2,}}|[{_BLANK[1:]}]", " "),
    (" \n ?|\n ", "\n"),
    ("\n\n\n+", "\n\n"),
)


def clean(texts: pa.StringArray) -> pa.StringArray:
    """Return the documents cleaned, in order; one that held nothing but blanks comes out empty.

    Mis-decoded characters are fixed (ftfy.fix_encoding), characters composed (NFC), line ends made newlines, control
    and invisible characters removed, runs of blanks made one space, of blank lines one blank line; ends are trimmed.
    Cleaning twice changes nothing more, but for text mis-decoded several times over.
    """
    return _where(texts, f"{UNTIDY}|{MOJIBAKE}|{MAYBE_NOT_NFC}", _clean_all)


def without(lists: pa.ListArray, removed: np.ndarray, *, end: str, texts: pa.StringArray) -> pa.StringArray:
    """Return clean documents without some of their parts.

    `lists` are the parts of `texts`, cut at `end`; `removed` says which of all P parts go, [P] bool.
    """
    left = np.concatenate([[0], np.cumsum(~removed)])
    offsets = left[lists.offsets.to_numpy() - lists.offsets[0].as_py()].astype(np.int32)
    parts = pa.ListArray.from_arrays(pa.array(offsets), lists.flatten().filter(pa.array(~removed)))
    changed = pa.array(np.diff(offsets) < pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    return pc.replace_with_mask(texts, changed, clean(pc.binary_join(parts, end).filter(changed)))


def _clean_all(texts: pa.StringArray) -> pa.StringArray:
    texts = _where(texts, MOJIBAKE, _decode_again)
    for pattern, replacement in _TIDYING:
        replaced = partial(pc.replace_substring_regex, pattern=pattern, replacement=replacement)
        texts = _where(texts, pattern, replaced)
    return pc.utf8_trim_whitespace(_where(texts, MAYBE_NOT_NFC, partial(pc.utf8_normalize, form="NFC")))


def _decode_again(texts: pa.StringArray) -> pa.StringArray:
    import ftfy  # a quarter of a second, which commands that clean nothing need not wait for

    return pa.array([ftfy.fix_encoding(text) for text in texts.to_pylist()], pa.string())


def _where(texts: pa.StringArray, suspicious: str, fix: Callable[[pa.StringArray], pa.StringArray]) -> pa.StringArray:
    """Apply `fix` to the documents that match `suspicious`."""
    suspects = pc.match_substring_regex(texts, suspicious)
    if not pc.any(suspects).as_py():
        return texts
    return pc.replace_with_mask(texts, suspects, fix(texts.filter(suspects)))
