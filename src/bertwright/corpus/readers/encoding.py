"""Turns the bytes of a file into UTF-8: detects the encoding of what is none, and says which was taken.

Two-byte encodings of Chinese, Japanese and Korean decode one another's text without an error, so what counts is how
many of the decoded characters are common ones; the others are found by charset-normalizer.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

import charset_normalizer
import numpy as np
import pyarrow as pa

from bertwright.corpus.readers.characters import replace_surrogate_bytes
from bertwright.corpus.readers.remote import TextFile
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte-order marks, the longer ones first: that of UTF-32 begins as that of UTF-16 does."""
SAMPLE_BYTES = 1 << 16
SAMPLE_LINE = 1 << 10
"""Bytes before a last one that is of another encoding, to detect it by."""
LONGEST_CHARACTER = 4
AS_UTF8 = "convert it to UTF-8, or name its encoding with --encoding"
SHORTEST_WIDE = 16
"""Bytes from which zeros in every second place say something."""
SHOWN = 10
"""Decoded characters that a note shows."""
FILES_NAMED = 5
"""Files of one folder and encoding that are named; further ones have a single note."""
COMMON = 0.75
"""Fraction of common characters from which a two-byte encoding is believed."""
BROKEN = 0.005
"""Fraction of characters that a two-byte encoding may fail at: a last one that is cut off, or what a vendor added."""
WESTERN = "àâäáãåæçéèêëíìîïñóòôöõøœúùûüßÀÂÄÁÃÅÆÇÉÈÊËÍÎÏÑÓÔÖÕØÚÙÛÜ¿¡«»“”‘’„‚–—…€£°§©®·ªº\u00a0"
CENTRAL = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽőűŐŰăâîșțşţöäüßđĐ«»“”„’–—…€\u00a0"
TURKISH = "çğıöşüÇĞİÖŞÜâîû“”‘’–—…\u00a0"
LATIN = (("cp1252", WESTERN), ("cp1250", CENTRAL), ("iso8859_2", CENTRAL), ("cp1254", TURKISH))
"""Encodings of Latin letters, with the characters that text in them has, the most probable first."""
FEW_BEYOND = 0.4
"""Fraction of letters beyond ASCII up to which a text is written in Latin letters."""
OTHERS = [
    "cp1251", "koi8_r", "koi8_u", "iso8859_5", "cp866", "mac_cyrillic", "cp1253", "iso8859_7", "cp1255", "cp1256",
    "cp874", "cp1250", "cp1252", "cp1254", "cp1257", "cp1258",
]  # fmt: skip
"""Encodings of other alphabets, of one byte a character, that charset-normalizer chooses from."""


def check_encoding(name: str | None) -> None:
    """Raise UsageError where an encoding is not known, or is none of text."""
    if name is None:
        return
    try:
        known = getattr(codecs.lookup(name), "_is_text_encoding", True)
    except (LookupError, ValueError):
        known = False
    if not known:
        raise UsageError(f"--encoding {name} is not known; give one such as utf-8, gb18030, big5, cp1252 or utf-16-le")


def decode_chunks(chunks: Iterator[bytes], path: TextFile, encoding: str | None) -> Iterator[bytes]:
    """Yield chunks of a file in UTF-8, without the byte-order mark; `encoding` None detects it.

    Lines of a file whose lines all end in a carriage return alone (old Mac programs) end in a line feed here.
    """
    in_utf8 = _in_utf8(chunks, path, encoding)
    first = next((chunk for chunk in in_utf8 if chunk), b"")
    everything = chain([first], in_utf8)
    if b"\r" not in first[:-1] or b"\n" in first:
        yield from everything
        return
    for chunk in everything:
        yield chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _in_utf8(chunks: Iterator[bytes], path: TextFile, encoding: str | None) -> Iterator[bytes]:
    """Yield chunks of a file in UTF-8, its lines as they are."""
    first = b""
    while len(first) < LONGEST_CHARACTER and (chunk := next(chunks, None)) is not None:
        first += chunk
    name = encoding or encoding_of_mark(first)
    everything = chain([first.removeprefix(codecs.BOM_UTF8)], chunks)
    if name is None:
        yield from _detected(everything, path)
    elif codecs.lookup(name).name in ("utf-8", "utf-8-sig"):
        yield from map(replace_surrogate_bytes, everything)
    else:
        yield from _decoded_as(name, chain([first], chunks), path, given=encoding is not None)


def _detected(chunks: Iterator[bytes], path: TextFile) -> Iterator[bytes]:
    """Yield chunks as they are while they are UTF-8; from the first bytes that are not, decoded in what they are in.

    A file that has UTF-8 characters before, or more of them than broken bytes, is UTF-8 with faults, and stays so.
    """
    rest = before = b""
    is_ascii = True
    while (chunk := next(chunks, None)) is not None:
        data = rest + chunk if rest else chunk
        data = replace_surrogate_bytes(data) if b"\xed" in data else data
        whole = data[: len(data) - _cut_character(data)]
        fault = fault_in(whole)
        if fault is None:
            rest, before, is_ascii = data[len(whole) :], whole[-SAMPLE_LINE:], is_ascii and whole.isascii()
            yield whole
            continue
        while len(data) - fault < SAMPLE_BYTES and (more := next(chunks, None)) is not None:
            data += more
        name = _encoding_at(data, fault) if is_ascii else None
        if name is None:
            yield from chain([data], map(replace_surrogate_bytes, chunks))
            return
        note_encoding(path, name, _sample(data, fault))
        yield from _decoded_as(name, chain([data], chunks), path, given=False)
        return
    if rest:  # a character that is cut off by the end of the file, or one byte of another encoding
        name = _encoding_at(before + rest, len(before)) if is_ascii else None
        if name is not None:
            note_encoding(path, name, _sample(before + rest, len(before)))
        yield rest if name is None else b"".join(_decoded_as(name, iter([rest]), path, given=False))


def _cut_character(data: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 character that goes on after it."""
    for back in range(1, min(LONGEST_CHARACTER, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _encoding_at(data: bytes, fault: int) -> str | None:
    """Return the encoding of bytes that are no UTF-8 at `fault`, or None."""
    around = data[max(0, fault - SAMPLE_BYTES) : fault + SAMPLE_BYTES]
    return None if is_mostly_utf8(around) else detect_encoding(_sample(data, fault))


def _sample(data: bytes, fault: int) -> bytes:
    """Return the bytes from the line on that holds the fault, or from a blank or mark before it."""
    begin = data.rfind(b"\n", max(0, fault - SAMPLE_BYTES // 2), fault) + 1
    if not begin and fault >= SAMPLE_BYTES // 2:
        begin = max(fault - SAMPLE_BYTES // 2, *(data.rfind(mark, 0, fault) for mark in b" ,.\t"))
    return data[begin : begin + SAMPLE_BYTES]


def _decoded_as(name: str, chunks: Iterator[bytes], path: TextFile, *, given: bool) -> Iterator[bytes]:
    """Yield chunks in UTF-8; what cannot be decoded becomes bytes that are no UTF-8, halves of pairs U+FFFD."""
    wide = codecs.lookup(name).name.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(name)("replace" if wide else "surrogateescape")
    for final, chunk in _with_end(chunks):
        try:
            text = decoder.decode(chunk, final)
        except UnicodeError as error:
            raise CorpusError(_not_in(name, path, given=given)) from error
        if wide and text.count("\ufffd") > 1 + len(text) // 100:
            raise CorpusError(_not_in(name, path, given=given))
        yield re.sub("[\ud800-\udfff]", "\udcff", text).removeprefix("\ufeff").encode("utf-8", "surrogateescape")


def _with_end(chunks: Iterator[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Yield each chunk, and at last an empty one marked as the end."""
    yield from ((False, chunk) for chunk in chunks)
    yield True, b""


def _not_in(name: str, path: TextFile, *, given: bool) -> str:
    cure = "give another --encoding" if given else AS_UTF8
    return f"{path} {'is not text in' if given else 'starts as'} {name}{'' if given else ' but is not'}; {cure}"


def fault_in(data: bytes) -> int | None:
    """Return where `data` stops being UTF-8 text (a NUL byte is none), or None where all of it is."""
    nul = data.find(b"\0")
    text = pa.StringArray.from_buffers(1, pa.array([0, len(data)], pa.int32()).buffers()[1], pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return _first_undecodable(data) if nul < 0 else min(nul, _first_undecodable(data))
    return None if nul < 0 else nul


def _first_undecodable(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def not_text(path: TextFile | str, data: bytes, fault: int, *, offset: int = 0, line: int | None = None) -> str:
    """Return what is wrong with bytes of a file at `fault`, which are `offset` bytes from its start."""
    where = f"at byte {offset + fault:,}" + (f" (line {line:,})" if line else "")
    if data[fault : fault + 1] == b"\0":
        return f"{path} has a NUL byte {where}: it is binary, or UTF-16 without a byte-order mark"
    return f"{path} is not UTF-8 text {where}"


def encoding_of_mark(start: bytes) -> str | None:
    """Return the encoding of a byte-order mark, or None; UTF-8 is none of them."""
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), None)


def is_mostly_utf8(sample: bytes) -> bool:
    """Return whether UTF-8 with some broken bytes is more probable than another encoding."""
    text = sample.decode("utf-8", "surrogateescape")
    broken = len(re.findall("[\udc80-\udcff]", text))
    return len(re.findall("[^\x00-\x7f\udc80-\udcff]", text)) > broken


@lru_cache(maxsize=256)
def detect_encoding(sample: bytes) -> str | None:
    """Return the encoding of a sample that is no UTF-8, or None where nothing fits.

    >>> detect_encoding("好电影".encode("gbk")), detect_encoding("Zwölf Größen".encode("latin-1"))
    ('gb18030', 'cp1252')
    """
    if b"\0" in sample:
        return _sixteen_bits(sample)
    fractions = {name: _common_fraction(sample, name) for name in _COMMON}
    likeliest = max(fractions, key=lambda name: fractions[name])
    if fractions[likeliest] >= COMMON:
        return likeliest
    return "gb18030" if _is_gb2312(sample) else _one_byte(sample)


def _sixteen_bits(sample: bytes) -> str | None:
    """Return UTF-16 without a mark where every second byte of many is 0, as in text of Latin letters."""
    zeros = np.frombuffer(sample, dtype=np.uint8) == 0
    if len(zeros) < SHORTEST_WIDE:
        return None
    even, odd = float(zeros[::2].mean()), float(zeros[1::2].mean())
    return "utf-16-le" if odd > 0.4 and even < 0.01 else "utf-16-be" if even > 0.4 and odd < 0.01 else None


def _decoded(sample: bytes, name: str) -> str | None:
    """Return the sample as text, a last character that is cut off left out; None where it cannot be decoded."""
    try:
        return codecs.getincrementaldecoder(name)().decode(sample)
    except UnicodeDecodeError:
        return None


def _common_fraction(sample: bytes, name: str) -> float:
    """Return the fraction of common characters among those beyond ASCII, 0 where there are none.

    Common are those of the first level of the national standard (the characters of everyday text), kana, Hangul, and
    full-width marks. Korean is believed where nearly all are Hangul syllables: they lie within the Chinese level.
    """
    text = sample.decode(name, "replace")
    beyond = re.findall("[^\x00-\x7f\ufffd]", text)
    broken = text[:-1].count("\ufffd")  # the last may be cut off
    if not beyond or broken > 1 + BROKEN * len(beyond):
        return 0.0
    if not re.search("[^\x00-\x7f\ufffd]{2}", text) and re.search(rb"[A-Za-z]", sample):
        return 0.0  # a letter of a Latin word and the one after it
    fraction = sum(map(_COMMON[name], (one.encode(name) for one in beyond))) / (len(beyond) + broken)
    if name == "cp949":
        return fraction + 0.1 if fraction > 0.9 and len(beyond) > 5 else 0.0
    if name == "cp932" and all("｡" <= one <= "ﾟ" for one in beyond):
        return 0.0
    return fraction


_COMMON: dict[str, Callable[[bytes], bool]] = {
    "gb18030": lambda pair: len(pair) == 2 and pair[1] >= 0xA1 and (0xB0 <= pair[0] <= 0xD7 or pair[0] in (0xA1, 0xA3)),
    "big5": lambda pair: len(pair) == 2 and 0xA1 <= pair[0] <= 0xC6,
    "cp932": lambda pair: len(pair) == 2 and (0x81 <= pair[0] <= 0x83 or 0x88 <= pair[0] <= 0x97),
    "euc_jp": lambda pair: len(pair) == 2 and (pair[0] in (0xA1, 0xA4, 0xA5) or 0xB0 <= pair[0] <= 0xCF),
    "cp949": lambda pair: len(pair) == 2 and pair[1] >= 0xA1 and 0xB0 <= pair[0] <= 0xC8,
}
"""Whether the bytes of a character are of the first level, by encoding."""


def _is_gb2312(sample: bytes) -> bool:
    """Return whether bytes beyond ASCII come in pairs that GB 2312 has a Chinese character for.

    One character within a Latin word is none: it is two letters, as in Größe.
    """
    text = re.sub("(?<=[A-Za-z])[^\x00-\x7f](?=[A-Za-z])", "", _decoded(sample, "gb18030") or "")
    beyond = re.findall("[^\x00-\x7f]", text)
    pairs = [one for one in beyond if len(one.encode("gb18030")) == 2 and one.encode("gb18030")[1] >= 0xA1]
    return len(pairs) > 0.9 * len(beyond) > 0 and sum("\u4e00" <= one <= "\u9fff" for one in pairs) > len(pairs) / 2


def _one_byte(sample: bytes) -> str | None:
    """Return an encoding of one byte a character: of Latin letters where few are beyond ASCII."""
    high = len(re.findall(rb"[\x80-\xff]", sample))
    if re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", sample):
        return None
    if high > FEW_BEYOND * (high + len(re.findall(rb"[A-Za-z]", sample))):
        guess = charset_normalizer.from_bytes(sample, cp_isolation=OTHERS).best()
        return None if guess is None else guess.encoding
    fractions = [(_fraction_of(sample, name, letters), -place) for place, (name, letters) in enumerate(LATIN)]
    best, place = max(fractions)
    return LATIN[-place][0] if best > 0.5 else None


def _fraction_of(sample: bytes, name: str, letters: str) -> float:
    """Return the fraction of `letters` among the characters beyond ASCII."""
    beyond = re.findall("[^\x00-\x7f]", _decoded(sample, name) or "")
    return sum(one in letters for one in beyond) / len(beyond) if beyond else 0.0


def note_encoding(path: TextFile, name: str, sample: bytes) -> None:
    """Print which encoding a file is read in, with ten of its characters; each file once, and of many files a few."""
    _say(str(path), name, _shown(sample.decode(name, "replace")))


def _shown(text: str) -> str:
    """Return ten characters from the word on that has the first one beyond ASCII."""
    found = re.search("[^\x00-\x7f]", text)
    place = found.start() if found else 0
    begin = max(place - SHOWN // 2, *(text.rfind(blank, 0, place) + 1 for blank in " \t\n,"))
    return re.sub(r"\s", " ", text[begin : begin + SHOWN])


_named: dict[tuple[str, str], set[str]] = {}
"""Files that were named, by encoding and folder."""


def _say(path: str, name: str, shown: str) -> None:
    named = _named.setdefault((name, str(Path(path).parent)), set())
    if path in named or len(named) > FILES_NAMED:
        return
    named.add(path)
    more = "; further files of this folder and encoding are not named" if len(named) > FILES_NAMED else ""
    note(f"{path} is not UTF-8; it is read as {name}: {shown!r}. If that is wrong, give --encoding{more}")
