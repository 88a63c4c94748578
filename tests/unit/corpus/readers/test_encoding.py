"""Encodings: which one bytes are in, also where another decodes them without an error; and the same text from all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bertwright.corpus.readers import blocks
from bertwright.corpus.readers.blocks import read_text
from bertwright.corpus.readers.encoding import detect_encoding
from bertwright.errors import CorpusError, UsageError

CHINESE = "这家店的面条很好吃，服务也周到。我们下次还会带朋友来，推荐给大家。\n"
TAIWAN = "這家店的麵條很好吃，服務也周到。我們下次還會帶朋友來，推薦給大家。\n"
JAPANESE = "この店のうどんはとても美味しいです。店員さんも親切で、また友達と来たいと思いました。\n"
KOREAN = "이 가게의 국수는 정말 맛있고 직원도 친절합니다. 다음에는 친구와 함께 다시 오겠습니다.\n"
RUSSIAN = "В этом кафе очень вкусная лапша, и персонал приветлив. В следующий раз придём с друзьями.\n"
GREEK = "Το φαγητό ήταν πολύ νόστιμο και το προσωπικό ευγενικό. Θα ξανάρθουμε με φίλους.\n"
GERMAN = "Die Nudeln schmecken großartig, und die Bedienung ist höflich. Nächstes Mal für zwölf Gäste.\n"
FRENCH = "Les pâtes étaient délicieuses, le service très agréable. On reviendra à l'été, c'est sûr.\n"
POLISH = "Makaron był pyszny, a obsługa bardzo miła. Następnym razem przyjdziemy z przyjaciółmi, żeby zjeść więcej.\n"
TURKISH = "Erişte çok güzeldi, çalışanlar da kibardı. Bir dahaki sefere arkadaşlarımızla geleceğiz.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"), (CHINESE, "gbk"), (TAIWAN, "big5"), (JAPANESE, "cp932"), (JAPANESE, "euc_jp"),
        (KOREAN, "cp949"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r"), (GREEK, "cp1253"), (GERMAN, "cp1252"),
        (FRENCH, "latin-1"), (POLISH, "cp1250"), (POLISH, "iso8859_2"), (TURKISH, "cp1254"),
        (GERMAN, "utf-16-le"), (GERMAN, "utf-16-be"), (CHINESE, "utf-16"), (CHINESE, "utf-32"), (CHINESE, "utf-8-sig"),
    ],
)  # fmt: skip
def test_the_same_text_from_every_encoding(
    tmp_path: Path, text: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    for whole in (text, "only ascii at first\n" * 3 + text * 50):
        file.write_bytes(whole.encode(encoding))
        assert read_text(file) == whole
        assert read_text(file, encoding) == whole
    output = capsys.readouterr().err
    assert ("--encoding" in output) == (not encoding.startswith("utf") or encoding[-2:] in ("le", "be"))


@pytest.mark.parametrize("words", ["好电影", "坏", "你好 world", "价格：30元"])
def test_a_few_chinese_words_are_never_latin(words: str) -> None:
    assert detect_encoding(words.encode("gb18030")) == "gb18030"


@pytest.mark.parametrize("words", ["café", "Größe", "naïve", "El Niño", "“quoted”"])
def test_a_few_western_letters_are_never_chinese(words: str) -> None:
    assert detect_encoding(words.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_characters_are_whole_wherever_the_file_is_cut(
    tmp_path: Path, size: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ascii\n" * 4 + CHINESE * 8 + "\U0001f600 end"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    assert read_text(tmp_path / "a.txt") == text


def test_what_is_said_has_ten_characters_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_bytes(f"number {number}: {CHINESE}".encode("gb18030"))
        read_text(tmp_path / f"{number}.txt")
        read_text(tmp_path / f"{number}.txt")
    lines = capsys.readouterr().err.splitlines()
    assert all(re.search("gb18030.*'这家店的面条很好吃，'", line) for line in lines)
    assert len(lines) <= 6


def test_broken_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(CHINESE.encode() + b"torn \xe4\xb8 here\n" + CHINESE.encode())
    with pytest.raises(CorpusError, match=r"a\.txt.*UTF-8.*byte 105"):
        read_text(tmp_path / "a.txt")


def test_wrong_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(CHINESE.encode())
    for name in ("no-such", "rot13", "base64"):
        with pytest.raises(UsageError, match=f"--encoding {name}"):
            read_text(tmp_path / "a.txt", name)
    (tmp_path / "b.txt").write_bytes(CHINESE.encode("gb18030"))
    with pytest.raises(CorpusError, match=r"UTF-8.*byte 0"):
        read_text(tmp_path / "b.txt", "utf-8")
    (tmp_path / "c.txt").write_bytes(GERMAN.encode("cp1252"))
    with pytest.raises(CorpusError, match=r"c\.txt.*UTF-8"):
        read_text(tmp_path / "c.txt", "ascii")
