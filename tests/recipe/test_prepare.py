"""From text to DATA: counts are right, a killed run continues to the same bytes, bad input ends in one sentence."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bertwright.corpus import cooccurrence
from bertwright.corpus.cooccurrence import NEIGHBOURS, load_or_count
from bertwright.corpus.manifest import bytes_per_token, read_manifest
from bertwright.corpus.shards import Shards
from bertwright.corpus.vocabulary import vocabulary_size
from bertwright.errors import CorpusError, DiskSpaceError, TokenizerError, UsageError
from bertwright.rng import stream
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.prepare import prepare


def _document(number: int) -> str:
    random = stream("test document", number)
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}word{i % 7}" for i in range(400)]
    sentences = [" ".join(random.choice(words, size=8)).capitalize() + "." for _ in range(random.integers(2, 9))]
    return " ".join(sentences)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 documents, 40 of them copies of earlier ones and 10 empty."""
    path = tmp_path_factory.mktemp("corpus") / "text.jsonl"
    texts = [_document(i) for i in range(600)]
    for i in range(40):
        texts[550 + i] = texts[i * 3] + " "
    texts[590:] = [" \n "] * 10
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_counts_and_contents(corpus: Path, tmp_path: Path) -> None:
    report = prepare([corpus], tmp_path / "data", vocab_size=512, valid_fraction=0.1)
    assert report["dropped"] == {"empty": 10, "duplicate": 40, "broken": 0}
    assert sum(report["documents"].values()) == 550
    assert 25 < report["documents"]["valid"] < 90  # 55 expected, 5 sigma = 35
    train = Shards.open(tmp_path / "data", "train")
    tokenizer = load_tokenizer(tmp_path / "data")
    assert train.token_count == report["tokens"]["train"]
    held = Shards.open(tmp_path / "data", "valid")
    decoded = {tokenizer.decode(s.tokens(i).tolist()) for s in (train, held) for i in range(s.document_count)}
    assert decoded == {_document(i).lower() for i in range(550)}
    tokens = np.concatenate([train.tokens(i) for i in range(train.document_count)])
    shares = np.bincount(tokens) / len(tokens)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert report["unigram_entropy"] == pytest.approx(entropy, rel=1e-9)
    assert not list((tmp_path / "data").glob(".*"))
    assert json.loads((tmp_path / "data" / "report.json").read_text())["fingerprint"] == train.fingerprint


KILLED = """
import os, signal, sys
from pathlib import Path
from bertwright.corpus import pipeline, journal
from bertwright.corpus import data_folder
from bertwright.corpus.dedup import dedup_state, near_duplicates
from bertwright.corpus.readers import documents
from bertwright.verbs import prepare as recipe
documents.BATCH_BYTES = 20_000
where, calls = sys.argv[3], 0
last = 1 if where in ("finish", "neighbours") else 5
def killing(function, when):
    def wrapped(*args, **named):
        global calls
        calls += 1
        if calls == last and when == "before": os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **named)
        if calls == last: os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped
if where == "journal": journal.Journal.save = killing(journal.Journal.save, "before")
if where == "forget": dedup_state.DedupState.forget_previous = killing(dedup_state.DedupState.forget_previous, "before")
if where == "shard": pipeline.write_shard = killing(pipeline.write_shard, "after")
if where == "append": near_duplicates.GrowingArray.append = killing(near_duplicates.GrowingArray.append, "after")
if where == "neighbours": data_folder.write_neighbours = killing(data_folder.write_neighbours, "after")
if where == "finish": data_folder.remove = killing(data_folder.remove, "after")
recipe.prepare(
    [sys.argv[1]], Path(sys.argv[2]), vocab_size=512, valid_fraction=0.1, shard_text=30_000, near_duplicates=0.6,
    repeated_paragraphs=3, filter=["web", "words=2:", "digits=:0.5"],
)
"""


def _run(corpus: Path, out: Path, kill: str) -> int:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    words = [sys.executable, "-c", KILLED, str(corpus), str(out), kill]
    return subprocess.run(words, env=environment, check=False, capture_output=True).returncode


@pytest.mark.parametrize("kill", ["journal", "forget", "shard", "append", "neighbours", "finish"])
def test_a_killed_run_continues_to_the_same_bytes(corpus: Path, tmp_path: Path, kill: str) -> None:
    assert _run(corpus, tmp_path / "whole", "never") == 0
    assert _run(corpus, tmp_path / "killed", kill) == -signal.SIGKILL
    vocabulary = tmp_path / "killed" / "tokenizer" / "tokenizer.json"
    made = vocabulary.stat().st_mtime_ns
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert kill == "append" or list((tmp_path / "killed").glob("train-*.arrow"))
    assert _run(corpus, tmp_path / "killed", "never") == 0
    whole, killed = _files(tmp_path / "whole"), _files(tmp_path / "killed")
    assert len(list((tmp_path / "whole").glob("train-*.arrow"))) >= 5
    whole.pop("report.json")  # holds seconds
    killed.pop("report.json")
    assert whole == killed
    assert vocabulary.stat().st_mtime_ns == made


def test_neighbours_are_counted_once(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` writes the table that a run would count and keep, byte for byte, and the manifest has its checksum."""
    data = tmp_path / "data"
    report = prepare([corpus], data, vocab_size=512, valid_fraction=0.1, shard_text=30_000)
    written = (data / NEIGHBOURS).read_bytes()
    entry = json.loads((data / "manifest.json").read_text())["neighbours"]
    assert report["neighbour_bytes"] == entry["bytes"] == len(written)
    (data / NEIGHBOURS).unlink()
    train = Shards.open(data, "train")
    counted = load_or_count(data, train, 512)
    assert (data / NEIGHBOURS).read_bytes() == written
    assert counted.frequencies.sum() == train.token_count
    monkeypatch.setattr(cooccurrence, "count_neighbours", lambda *_: pytest.fail("counted again"))
    load_or_count(data, train, 512)


def test_the_same_bytes_whoever_works(corpus: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"vocab_size": 512, "held_out": 0.1, "shard_text": 30_000, "near_duplicates": 0.8}
    for name, workers in (("threads", 1), ("processes", 2)):
        prepare([corpus], tmp_path / name, workers=workers, **settings)
        (tmp_path / name / "report.json").unlink()
    assert _files(tmp_path / "threads") == _files(tmp_path / "processes")


DYING = """
import os, signal, sys
from pathlib import Path
from bertwright.corpus.executors import processes
from bertwright.verbs.prepare import prepare
if __name__ == "__main__":
    in_order = processes.in_order
    def killing(items, start, *, ahead):
        import multiprocessing
        for number, pair in enumerate(in_order(items, start, ahead=ahead)):
            if number == 3: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            yield pair
    from bertwright.corpus import pipeline
    from bertwright.corpus.readers import documents
    pipeline.in_order = killing
    documents.BATCH_BYTES = 5_000
    from bertwright.cli.main import main
    sys.exit(main(["prepare", sys.argv[1], "--out", sys.argv[2], "--vocab-size", "512", "--workers", "2"]))
"""


def test_a_worker_that_dies_is_told_in_a_sentence(corpus: Path, tmp_path: Path) -> None:
    program = tmp_path / "dying.py"
    program.write_text(DYING)
    words = [sys.executable, str(program), str(corpus), str(tmp_path / "data")]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "worker process" in ran.stderr
    assert "Traceback" not in ran.stderr
    prepare([corpus], tmp_path / "data", vocab_size=512)


def test_near_copies_are_left_out(tmp_path: Path) -> None:
    texts = [_document(number) for number in range(60)]
    copies = [text.replace(text.split()[9], "instead", 1) for text in texts[:20] if len(text.split()) > 40]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *copies]))
    report = prepare([tmp_path / "text.jsonl"], tmp_path / "data", vocab_size=512, near_duplicates=0.6)
    assert report["dropped"]["near_duplicate"] == len(copies) > 5
    assert sum(report["documents"].values()) == 60
    assert report["dropped_examples"]["near_duplicate"] == copies[0][:200]


def test_repeated_paragraphs_are_left_out(tmp_path: Path) -> None:
    texts = [f"{_document(number)}\n\nAll rights reserved by the publisher." for number in range(30)]
    texts.append("All rights reserved by the publisher.")
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    report = prepare(
        [tmp_path / "text.jsonl"], tmp_path / "data", vocab_size=512, repeated_paragraphs=4, valid_fraction=0
    )
    assert report["dropped"]["repeated_paragraph"] == 27
    assert report["dropped"]["repeated"] == 1
    assert sum(report["documents"].values()) == 30
    shards, tokenizer = Shards.open(tmp_path / "data", "train"), load_tokenizer(tmp_path / "data")
    ends = [
        tokenizer.decode(shards.tokens(i).tolist()).endswith("the publisher.") for i in range(shards.document_count)
    ]
    assert ends == [True] * 4 + [False] * (len(ends) - 4)


def test_filters_tell_their_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bertwright.cli.main import main

    texts = ["The house stands on the hill above the river. " + _document(number) for number in range(20)]
    texts += ["Too short.", "| 1 | 2 |\n" + _document(50), " ".join([_document(51)] * 3)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = ["prepare", str(tmp_path / "text.jsonl"), "--out", str(tmp_path / "data"), "--vocab-size", "512"]
    assert main([*words, "--filter", "web", "words=8:", "digits=:0.5"]) == 0
    assert "of repeated sequences" in " ".join(re.sub("[│ \n]+", " ", capsys.readouterr().out).split())
    report = json.loads((tmp_path / "data" / "report.json").read_text())
    expected = {"words": 1, "line-letters": 1, "repeated-sequences": 1}
    assert {reason: count for reason, count in report["dropped"].items() if count} == expected
    assert report["dropped_examples"]["words"] == "Too short."
    assert sum(report["documents"].values()) == 21


def test_given_held_out_documents_never_reach_training(corpus: Path, tmp_path: Path) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text(_document(3) + "\n\n" + _document(5000))
    report = prepare([corpus], tmp_path / "data", valid=[valid], vocab_size=512, document_boundary="blank")
    assert report["documents"] == {"train": 549, "valid": 2}
    assert report["dropped"]["duplicate"] == 41


def test_tiny_corpora(tmp_path: Path) -> None:
    file = tmp_path / "two.txt"
    file.write_text("One document. It has sentences.\n\nAnother one. It has them too.\n")
    report = prepare([file], tmp_path / "two", vocab_size=512)
    assert report["documents"] == {"train": 1, "valid": 1}
    file.write_text("One document. It has sentences.")
    with pytest.raises(CorpusError, match="--valid-fraction 0"):
        prepare([file], tmp_path / "one", vocab_size=512, document_boundary="file")
    report = prepare([file], tmp_path / "none", vocab_size=512, document_boundary="file", valid_fraction=0)
    assert report["documents"] == {"train": 1}


def test_a_given_tokenizer_is_taken_along(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "first", vocab_size=512)
    report = prepare([corpus], tmp_path / "second", tokenizer=tmp_path / "first")
    first, second = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("first", "second"))
    assert second["tokenizer"]["kind"] == "given"
    assert report["encoder"].startswith("tokie")
    assert first["fingerprint"] == second["fingerprint"]
    shutil.rmtree(tmp_path / "first")
    assert load_tokenizer(tmp_path / "second").vocab_size == 512


def test_chinese_words(tmp_path: Path) -> None:
    file = tmp_path / "zh.txt"
    file.write_text("他来到北京大学。我们在学习语言模型。\n\n今天的天气很好。二〇〇一年的café。\n" * 3)
    report = prepare([file], tmp_path / "data", vocab_size=512, language="zh")
    assert "rjieba" in report["word_starts"]
    assert report["tokens_per_word"] > 1.2


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_told_before_anything_is_written(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Disk(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DiskSpaceError, match="space"):
        prepare([corpus], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_tokenizer_without_special_tokens_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(
        '{"version": "1.0", "added_tokens": [], '
        '"model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "[PAD]": 1}, "unk_token": "[UNK]"}}'
    )
    with pytest.raises(TokenizerError, match="cls token"):
        prepare([corpus], tmp_path / "data", tokenizer=tmp_path)
    assert not (tmp_path / "data").exists()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"valid_fraction": 1.0}, "--valid-fraction"),
    ({"kind": "sentence"}, "choose one of wordpiece"),
    ({"vocab_size": 10}, "too small"),
    ({"near_duplicates": 1.0}, "--near-duplicates"),
    ({"repeated_paragraphs": 0}, "--repeated-paragraphs"),
    ({"filter": ["net"]}, "choose one of web"),
    ({"engine": "dask"}, "choose local or ray"),
    ({"workers": 0}, "nobody to work"),
    ({"vocab_size": 512, "tokenizer": Path("x")}, "cannot both"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_words(corpus: Path, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare([corpus], tmp_path / "data", **wrong)


def test_the_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bertwright.cli.main import main

    words: Sequence[str] = ["prepare", str(corpus), "--out", str(tmp_path / "data"), "--vocab-size", "512", "--cased"]
    assert main(list(words)) == 0
    out = capsys.readouterr().out
    assert "exactly duplicate" in out
    assert "MB/s" in out


def test_vocabulary_by_amount_of_text() -> None:
    assert [vocabulary_size(None, size) for size in (10**8, 10**9, 10**10)] == [8192, 16384, 30528]
    assert vocabulary_size(500, 10**10) == 512


def test_text_without_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" \n \n ")
    with pytest.raises(CorpusError, match="no text"):
        prepare([tmp_path / "blank.txt"], tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"extend_vocab": 5}, "--tokenizer"),
        ({"new_tokenizer": True}, "--tokenizer"),
        ({"tokenizer": "t", "extend_vocab": 0}, "--extend-vocab 0"),
        ({"tokenizer": "t", "extend_vocab": 5, "new_tokenizer": True}, "--new-tokenizer"),
        ({"tokenizer": "t", "extend_vocab": 5, "vocab_size": 600}, "--vocab-size"),
    ],
)
def test_flags_of_the_vocabulary_that_do_not_go_together(
    corpus: Path, tmp_path: Path, flags: dict[str, Any], names: str
) -> None:
    with pytest.raises(UsageError, match=names):
        prepare(corpus, tmp_path / "data", **flags)


def test_bytes_of_text_are_counted_by_split(corpus: Path, tmp_path: Path) -> None:
    report = prepare([corpus], tmp_path / "data", vocab_size=512, valid_fraction=0.1, shard_text=60_000)
    manifest = read_manifest(tmp_path / "data")
    tokenizer = load_tokenizer(tmp_path / "data")
    for split in ("train", "valid"):
        shards = Shards.open(tmp_path / "data", split)
        texts = [tokenizer.decode(shards.tokens(i).tolist()) for i in range(shards.document_count)]
        counted = sum(shard["text_bytes"] for shard in manifest["splits"][split]["shards"])
        assert counted == sum(len(text.encode()) for text in texts)
        assert bytes_per_token(manifest, split) == pytest.approx(counted / report["tokens"][split])
        for shard in manifest["splits"][split]["shards"]:
            del shard["text_bytes"]
    assert bytes_per_token(manifest, "valid") == pytest.approx(report["bytes_per_token"])  # as in earlier folders
