"""Wikipedia dumps: articles as prose, other pages counted, markup gone, hostile files refused, time in the length."""

from __future__ import annotations

import bz2
import time
from pathlib import Path

import pytest
import zstandard

from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.corpus.readers.wikipedia import plain_text
from bertwright.errors import CorpusError

SITE = (
    '<siteinfo><namespaces><namespace key="0"/><namespace key="6">Datei</namespace><namespace key="14">Kategorie'
    "</namespace></namespaces></siteinfo>"
)


def page(text: str, *, ns: int = 0, redirect: str = "") -> str:
    title = "<title>T</title>"
    return f"<page>{title}<ns>{ns}</ns>{redirect}<revision><text>{text}</text><sha1>x</sha1></revision></page>"


def dump(*pages: str) -> bytes:
    body = SITE + "".join(pages)
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de">{body}</mediawiki>'.encode()


PAGES = dump(
    page("'''Ulm''' liegt an der [[Donau]]. [[Datei:x.jpg|mini|Ein [[Bild]]]] Es regnet &amp;amp; schneit."),
    page("#REDIRECT [[Ulm]]", redirect='<redirect title="Ulm" />'),
    page("Geplauder", ns=1),
    page("Neu-Ulm ist groß.\n[[Kategorie:Ort]]"),
)
EXPECTED = ["Ulm liegt an der Donau.  Es regnet & schneit.", "Neu-Ulm ist groß."]


@pytest.mark.parametrize("name", ["dump.xml", "dump.xml.bz2", "dump.xml.zst", "multistream.xml.bz2"])
def test_articles_are_read_and_other_pages_counted(tmp_path: Path, name: str) -> None:
    data = PAGES
    if name == "multistream.xml.bz2":
        data = bz2.compress(PAGES[:300]) + bz2.compress(PAGES[300:])
    elif name.endswith("bz2"):
        data = bz2.compress(PAGES)
    elif name.endswith("zst"):
        data = zstandard.compress(PAGES)
    (tmp_path / name).write_bytes(data)
    (batch,) = read_documents(find_inputs([str(tmp_path)]).files, ReadOptions(), layout=None)
    assert batch.texts.to_pylist() == EXPECTED
    assert (batch.passed_over, batch.broken) == (2, 0)


def test_reading_goes_on_at_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.wikipedia.CHUNK", 500)
    monkeypatch.setattr("bertwright.corpus.readers.documents.BATCH_BYTES", 300)
    path = tmp_path / "dump.xml"
    path.write_bytes(dump(*(page(f"Article {i} is about number {i}.", ns=int(i % 3 == 2)) for i in range(60))))
    whole = list(read_documents([path], ReadOptions(), layout=None))
    assert sum(batch.passed_over for batch in whole) == 20
    for index, batch in enumerate(whole[:-1]):
        rest = list(read_documents([path], ReadOptions(), layout=None, skip=(batch.file, batch.stop)))
        assert [b.texts for b in rest] == [b.texts for b in whole[index + 1 :]]
        assert sum(b.passed_over for b in rest) == sum(b.passed_over for b in whole[index + 1 :])


def test_xml_that_is_no_dump_is_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "settings.xml").write_text("<settings/>")
    (tmp_path / "a.txt").write_text("text")
    assert [path.name for path in find_inputs([str(tmp_path)]).files] == ["a.txt"]
    with pytest.raises(CorpusError, match="Wikipedia"):
        list(read_documents([tmp_path / "settings.xml"], ReadOptions(), layout=None))


BOMB = (
    '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><mediawiki><page><ns>0</ns><text>&i;</text></page></mediawiki>"
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB.encode(), "document type"),
        (b"<mediawiki>" + b"<page>" * 5000, "deep"),
        (b"<mediawiki><" + b"a" * 20_000_000, "tag"),
        (PAGES[:400], "XML"),
        (b"<mediawiki><page><ns>0</ns><text>\xff</text></page></mediawiki>", "XML"),
        (b'<!DOCTYPE mediawiki SYSTEM "file:///etc/passwd"><mediawiki/>', "document type"),
    ],
)
def test_hostile_and_torn_dumps_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "x.xml").write_bytes(data)
    with pytest.raises(CorpusError, match=reason):
        list(read_documents([tmp_path / "x.xml"], ReadOptions(), layout=None))


@pytest.mark.parametrize(
    ("markup", "prose"),
    [
        ("{{Infobox|a={{b|c}}\n|}}\nText.", "Text."),
        ("a [[b|c]]s and [[d]]. [[File:x.jpg|thumb|A [[b]] c]]e", "a cs and d. e"),
        ("Seen.<ref name=a>A book.</ref> More<ref name=a/>.", "Seen. More."),
        ("An unclosed <ref> stays.", "An unclosed  stays."),
        ("{| class=x\n|-\n| a || {{b}}\n|}\nAfter.", "After."),
        ("See [http://x.org the page] or [//y.org].", "See the page or ."),
        ("== Head ==\n* one\n** two\n----\nend", "one\ntwo\n\nend"),
        ("a<!-- b -->c<!-- d", "ac"),
        ("[[de:Ulm]][[Category:Towns]][[:Category:Towns]]", "Category:Towns"),
        ("Open {{ brackets [[ stay", "Open  brackets  stay"),
        ("Ulm ({{lang|la|Ulma}}, ) lies", "Ulm lies"),
        ("-{zh-hans:软件;zh-hant:軟體}-与-{硬件}-", "软件与硬件"),
        ("[[Ulm (Donau)|]] and ''it'' is '''here'''", "Ulm and it is here"),
        ("<math>x^2 [[</math>y<gallery>\nFile:a.jpg\n</gallery>z", "yz"),
    ],
)
def test_markup_becomes_prose(markup: str, prose: str) -> None:
    assert plain_text(markup) == prose


@pytest.mark.parametrize(
    "piece", ["{{", "[[", "<b>", "'''", "{|\n", "<ref>", "[http://", "-{", "{{[[", "<!--", "[[a]]" * 3, "|}\n", "(" * 5]
)
def test_time_grows_with_the_length_alone(piece: str) -> None:
    """100 kB of anything take under 2 s of one core: what grew with the square would take minutes."""
    began = time.process_time()
    plain_text(piece * (100_000 // len(piece)))
    plain_text(piece * 5_000 + "]]}}" * 5_000)
    assert time.process_time() - began < 2
