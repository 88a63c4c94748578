"""Every bad input ends in one sentence and the right exit code; writes the table of them in docs/bad-input.md.

    PYTHONPATH=src python tests/docs/test_bad_input.py --write

makes the table again, in the Chinese page too, where a new case has its English name until it is translated. Each case
runs a command in this process, in a folder that holds the same small whole files. The tests compare exit codes and the
facts of a message, not its wording.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bertwright.cli.main import main
from bertwright.corpus.shards import Shard
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig
from bertwright.verbs import VERBS
from bertwright.verbs.prepare import prepare

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
CHINESE_PAGE = PAGE.parent / "zh" / PAGE.name
HEAD = """# Bad input, and the message it gets

Written by `tests/docs/test_bad_input.py`, which runs every call: its exit code, and the files, flags and values that
its message names, must be those of this page. Exit code 1: the work cannot be done with this input. Exit code 2:
invalid command line. Nothing ends in a traceback; with `--debug` one is shown too.

| # | input | call | message | exit code |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Case:
    """A bad input: what it is, the call, and what makes the input of the whole files, if they are not enough."""

    what: str
    call: str
    make: Callable[[], object] = lambda: None


def config(name: str, value: object) -> Callable[[], None]:
    """Return what changes a setting of the model's config.json."""

    def apply() -> None:
        path = Path("model/config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))

    return apply


def manifest(name: str, value: object) -> Callable[[], None]:
    """Return what changes a name of the manifest of the data, at its top or of its tokenizer."""

    def apply() -> None:
        path = Path("data/manifest.json")
        whole = json.loads(path.read_text())
        parts = (whole, whole["tokenizer"])
        next(part for part in parts if name in part)[name] = value
        path.write_text(json.dumps(whole))

    return apply


def write(path: str, data: str | bytes) -> Callable[[], None]:
    """Return what writes a file."""

    def apply() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data.encode() if isinstance(data, str) else data)

    return apply


def cut(path: str, share: float = 0.5) -> Callable[[], None]:
    """Return what cuts a file short."""

    def apply() -> None:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: int(len(whole) * share)])

    return apply


def flip(path: str) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def parquet(path: str, **columns: list[object]) -> Callable[[], None]:
    """Return what writes a Parquet file."""
    return lambda: pq.write_table(pa.table(columns), path)


def elsewhere() -> None:
    """Have the manifest of the data name a file outside of it."""
    path = Path("data/manifest.json")
    path.write_text(path.read_text().replace('"train-00000.arrow"', '"../../etc/passwd"'))


def torn_parquet() -> None:
    """Write half a Parquet file."""
    parquet("a.parquet", text=["a"])()
    cut("a.parquet")()


def dataset(name: str) -> Callable[[], None]:
    """Return what writes a saved dataset that names a file."""

    def apply() -> None:
        write("set/dataset_info.json", "{}")()
        write("set/state.json", json.dumps({"_data_files": [{"filename": name}]}))()

    return apply


def sentencepiece_alone() -> None:
    """Leave a model without a tokenizer but sentencepiece's."""
    for name in ("tokenizer.json", "vocab.txt"):
        Path(f"model/{name}").unlink()
    Path("model/sentencepiece.bpe.model").write_bytes(b"pieces")


DEEP = '{"text":' + "[" * 50_000 + "\n"
SENTENCE = "A sentence. " * 50
PREDICT = 'predict --model model "A [MASK]."'
PREPARE, PRETRAIN = "prepare {} --out new", "pretrain --data data --out new --size tiny --steps 2"
FINETUNE = "finetune classify --model model --train {} --dev good.tsv --out new"
BOMB = '<!DOCTYPE m [<!ENTITY a "aaaa">]><mediawiki><page><ns>0</ns><text>&a;</text></page></mediawiki>'

SHORT = "--data data --out new --steps 2 --seq-length 64"
SPLITS = "--train good.tsv --dev good.tsv"
CASES = [
    Case("a verb that does not exist", "prepear texts --out new"),
    Case("a flag that does not exist", "prepare texts --oot new"),
    Case("a flag without its value", "pretrain --data data --out"),
    Case("no input", "prepare --out new"),
    Case("a file that does not exist", PREPARE.format("absent.txt")),
    Case("an empty file", PREPARE.format("empty.txt"), write("empty.txt", "")),
    Case("blank lines alone", PREPARE.format("blank.txt"), write("blank.txt", " \n\n \n")),
    Case("a folder without text", PREPARE.format("pictures"), write("pictures/a.png", "x")),
    Case("a format that is not read", PREPARE.format("a.pdf"), write("a.pdf", "x")),
    Case("binary data called .txt", PREPARE.format("a.txt"), write("a.txt", b"text \xff\xfe\x00\x01 and more")),
    Case("JSON lines, one broken", PREPARE.format("a.jsonl"), write("a.jsonl", '{"text": "a"}\n{"text": \n')),
    Case("JSON lines without text", PREPARE.format("a.jsonl"), write("a.jsonl", '{"n": 1}\n{"n": 2}\n')),
    Case("JSON lines of a number for text", PREPARE.format("a.jsonl"), write("a.jsonl", '{"text": 3}\n')),
    Case("JSON lines nested 50,000 deep", PREPARE.format("a.jsonl"), write("a.jsonl", DEEP)),
    Case("a column that is absent", PREPARE.format("a.jsonl") + " --column body", write("a.jsonl", '{"text": "a"}\n')),
    Case("a table with a ragged row", PREPARE.format("a.csv"), write("a.csv", "text,n\na,1\nb\n")),
    Case("a Parquet file cut short", PREPARE.format("a.parquet"), torn_parquet),
    Case("a Parquet file of numbers", PREPARE.format("a.parquet"), parquet("a.parquet", text=[1, 2])),
    Case("an Arrow file of other bytes", PREPARE.format("a.arrow"), write("a.arrow", b"\xff" * 100)),
    Case("a .gz file cut short", PREPARE.format("a.txt.gz"), write("a.txt.gz", gzip.compress(os.urandom(9000))[:400])),
    Case("a .zst file of other bytes", PREPARE.format("a.txt.zst"), write("a.txt.zst", "no zstandard")),
    Case("XML that is no Wikipedia dump", PREPARE.format("a.xml"), write("a.xml", "<html/>")),
    Case("a dump that defines entities", PREPARE.format("a.xml"), write("a.xml", BOMB)),
    Case("a dump cut short", PREPARE.format("a.xml"), write("a.xml", "<mediawiki><page><ns>0</ns><text>a")),
    Case("a dataset that names a file elsewhere", PREPARE.format("set"), dataset("../../etc/passwd")),
    Case("a dataset that lacks a file", PREPARE.format("set"), dataset("data-0.arrow")),
    Case("an address of no protocol", PREPARE.format("nonsense://host/a.txt")),
    Case("an address without a file", PREPARE.format("memory://nowhere/a.txt")),
    Case("one document, none to hold out", PREPARE.format("one.txt") + " --vocab-size 512", write("one.txt", SENTENCE)),
    Case("a vocabulary too small", PREPARE.format("texts") + " --vocab-size 10"),
    Case("a fraction that is none", PREPARE.format("texts") + " --valid-fraction 2"),
    Case("a tokenizer and a vocabulary size", PREPARE.format("texts") + " --tokenizer data --vocab-size 512"),
    Case("a tokenizer that is absent", PREPARE.format("texts") + " --tokenizer absent"),
    Case("a tokenizer.json that is none", PREPARE.format("texts") + " --tokenizer t.json", write("t.json", "{}")),
    Case("a kind of vocabulary that does not exist", PREPARE.format("texts") + " --kind letters"),
    Case("a filter that does not exist", PREPARE.format("texts") + " --filter strict"),
    Case("an --out that is taken", "prepare texts --out data"),
    Case("no DATA folder", "pretrain --data texts --out new"),
    Case("a manifest that is no JSON", PRETRAIN, write("data/manifest.json", "{")),
    Case("a manifest of another version", PRETRAIN, manifest("format", 99)),
    Case("a manifest that claims 2^60 tokens", PRETRAIN, manifest("vocab_size", 2**60)),
    Case("a manifest that names a file elsewhere", "show data", elsewhere),
    Case("a shard cut short", PRETRAIN, cut("data/train-00000.arrow")),
    Case("a shard with one bit flipped", PRETRAIN, lambda: flip("data/train-00000.arrow")),
    Case("a shard that is absent", PRETRAIN, lambda: Path("data/train-00000.arrow").unlink()),
    Case("a tokenizer exchanged", PRETRAIN, write("data/tokenizer/tokenizer.json", "{}")),
    Case("a recipe that does not exist", PRETRAIN + " --recipe quick"),
    Case("a recipe that is no TOML", PRETRAIN + " --recipe own.toml", write("own.toml", "a = = 1")),
    Case("a setting that does not exist", PRETRAIN + " --optimizer.learning-rat 1"),
    Case("a setting of a wrong type", PRETRAIN + " --optimizer.learning-rate fast"),
    Case("a size that does not exist", "pretrain --data data --out new --size huge --steps 2"),
    Case("two durations", PRETRAIN + " --minutes 3"),
    Case("rows longer than the model", PRETRAIN + " --model.max-positions 16"),
    Case("shares for folders that are not given", PRETRAIN + " --mixture 0.5,0.5"),
    Case("shares that are no numbers", PRETRAIN + " --mixture half"),
    Case("a folder mixed with itself", PRETRAIN + " --data data"),
    Case("a run to resume that is none", PRETRAIN + " --resume"),
    Case("a run folder that is taken", "pretrain --data data --out texts --size tiny --steps 2"),
    Case("data of another tokenizer than that of a model to go on from", f"pretrain --init-from other {SHORT}"),
    Case("another size than that of a model to go on from", f"pretrain --init-from model --size small {SHORT}"),
    Case("no model to go on from", f"pretrain --init-from texts {SHORT}"),
    Case("a model to go on from whose tokenizer is sentencepiece's alone", f"pretrain --init-from model {SHORT}",
         sentencepiece_alone),
    Case("vectors of new tokens for a new model", f"pretrain --new-vectors neighbours --size tiny {SHORT}"),
    Case("a task that does not exist", "finetune guess --model model --train good.tsv --dev good.tsv --out new"),
    Case("a training file that is absent", FINETUNE.format("absent.tsv")),
    Case("a training file of one column", FINETUNE.format("a.tsv"), write("a.tsv", "text\nA cat.\n")),
    Case("a training file with empty texts", FINETUNE.format("a.tsv"), write("a.tsv", "text\tlabel\nA cat.\t1\n\t0\n")),
    Case("a training file of one label", FINETUNE.format("a.tsv"), write("a.tsv", "text\tlabel\nCats\t1\nDogs\t1\n")),
    Case(
        "scores that are no numbers",
        "finetune regress --model model --train a.tsv --dev a.tsv --out new",
        write("a.tsv", "text\tscore\nA cat.\t1.5\nA dog.\thigh\n"),
    ),
    Case(
        "SQuAD json that is none",
        "finetune answer --model model --train a.json --dev a.json --out new",
        write("a.json", '{"data": [{"paragraphs": [{"context": 3}]}]}'),
    ),
    Case(
        "CoNLL with ragged lines",
        "finetune tag --model model --train a.conll --dev a.conll --out new",
        write("a.conll", "The O\ncat B-X extra\n\n"),
    ),
    Case("a model that is absent", 'predict --model absent "A [MASK]."'),
    Case("a folder that is no model", 'predict --model texts "A [MASK]."'),
    Case("a config.json that is no JSON", PREDICT, write("model/config.json", "{")),
    Case("a config.json of another architecture", PREDICT, config("model_type", "gpt2")),
    Case("a config.json that claims 2^60 layers", PREDICT, config("num_hidden_layers", 2**60)),
    Case("weights cut short", PREDICT, cut("model/model.safetensors")),
    Case("weights of another width", PREDICT, config("hidden_size", 4)),
    Case(
        "a pickle that is more than weights",
        PREDICT,
        lambda: (
            Path("model/model.safetensors").unlink(),
            torch.save({"a": Fraction(1, 2)}, "model/pytorch_model.bin"),
        ),
    ),
    Case(
        "a model without a tokenizer",
        PREDICT,
        lambda: [Path(f"model/{name}").unlink() for name in ("tokenizer.json", "vocab.txt")],
    ),
    Case("a file of texts that is absent", "predict --model model --input absent.txt"),
    Case("vectors of an unknown form", "embed --model model --input good.tsv --out new.xyz"),
    Case("vectors of an absent layer", "embed --model model --input good.tsv --out new.npy --layer 9"),
    Case("a form that is not exported", "export --model model --to coreml --out new"),
    Case("a kind of evaluation that does not exist", "evaluate blimp --model model --data data"),
    Case("data of another tokenizer", "evaluate mlm --model other --data data"),
    Case("nothing to show", "show texts"),
    Case("a document that is not there", "show data --document 999999"),
    Case("a teacher that was not fine-tuned", f"distill classify --teacher model {SPLITS} --out new"),
    Case("data of another tokenizer than the teacher's", "distill pretrain --teacher other --data data --out new"),
    Case("too many blocks of a student", "distill pretrain --teacher model --data data --layers 3 --out new"),
    Case("a search without a model", f"tune classify {SPLITS} --out new"),
    Case("a search in no time", f"tune classify --model model {SPLITS} --out new --minutes 0"),
    Case(
        "a study of another task",
        f"tune classify --model model {SPLITS} --out study",
        write("study/study.json", '{"identity": {"the task": "tag"}, "plan": {}}'),
    ),
    Case("a plan for no time", "plan --data data"),
    Case("a plan too short for a step", "plan --data data --size tiny --minutes 0.00001"),
    Case("a plan for a GPU that is not in the table", "plan --data data --hours 1 --gpu voodoo2"),
    Case("a file that is no plan", "pretrain --plan plan.toml --out new", write("plan.toml", 'extends = "classic"')),
    Case("a model to serve that is absent", "serve --model absent"),
    Case("a folder to inspect that is no model", "inspect texts --out page.html"),
    Case("nothing to verify", "verify texts"),
    Case("a model changed since it was written", "verify model", lambda: flip("model/model.safetensors")),
    Case("nothing to examine", "doctor absent/"),
    Case("a test file that is absent", "doctor texts --test absent.tsv"),
    Case("a sample of nothing", "doctor texts --sample-mb 0"),
    Case("a folder to watch that is no run", "watch data"),
    Case("two things to compare that are no runs", "show model data"),
]  # fmt: skip


def make_whole(folder: Path) -> None:
    """Write the small whole files every case begins with."""
    (folder / "texts").mkdir(parents=True)
    for number in range(30):
        text = " ".join(f"Town {number} has {line} rivers. It rains there in month {line}." for line in range(6))
        (folder / "texts" / f"{number:02}.txt").write_text(text)
    prepare([folder / "texts"], folder / "data", vocab_size=512, valid_fraction=0.2)
    shape = {"hidden_size": 8, "layers": 1, "heads": 2, "intermediate_size": 8, "max_positions": 64}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=512, **shape)
    save_model(build_encoder(config), folder / "data" / "tokenizer", folder / "model")
    prepare([folder / "texts"], folder / "wide", vocab_size=576, valid_fraction=0.2)
    save_model(build_encoder(BertConfig(vocab_size=576, **shape)), folder / "wide" / "tokenizer", folder / "other")
    (folder / "good.tsv").write_text("text\tlabel\n" + "A cat sat.\t1\nA dog ran.\t0\n" * 4)
    assert Shard.open(folder / "data" / "train-00000.arrow")


def outcome(case: Case, whole: Path, place: Path) -> tuple[str, int]:
    """Return the last line a case prints to stderr, and its exit code; it runs in `place`, a copy of `whole`."""
    shutil.copytree(whole, place)
    with contextlib.chdir(place):
        case.make()
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = main(shlex.split(case.call))
    lines = [line for line in errors.getvalue().splitlines() if line.strip()]
    return lines[-1].removeprefix("bertwright: ").replace(f"{place}/", "") if lines else "", code


def facts(message: str, case: Case) -> set[str]:
    """Return what a message names: flags, files, quoted values and numbers, and words of the call.

    Numbers and quotations in parentheses are left out: a library says them, and may say something else tomorrow.
    """
    outside = re.sub(r"\([^)]*\)", "", message)
    named = re.findall(r"[\w/][\w./-]*\.\w+|'[^']*'|\"[^\"]*\"|\b\d[\d,]*\b", re.sub(r"--\S+", "", outside))
    of_the_call = set(shlex.split(case.call)[1:]) - {"data", "model", "set"}  # folders whose names are English words
    return {*re.findall(r"--[\w.-]*\w", message), *named, *(of_the_call & set(re.findall(r"[^\s:;,']+", outside)))}


def row(number: int, case: Case, message: str, code: int) -> str:
    """Return a line of the table."""
    cells = (case.what, f"`bertwright {case.call}`", message, str(code))
    return f"| {number} | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def rows_of(page: Path) -> list[list[str]]:
    """Return the cells of each row of a page: what it is, the call, the message, the exit code."""
    lines = re.findall(r"^\| \d+ \| (.*) \|$", page.read_text(encoding="utf-8"), re.M)
    return [[cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", line)] for line in lines]


def write_pages(rows: list[str]) -> None:
    """Write both pages; in the Chinese one a case keeps the name it has there."""
    chinese = {old[0]: new[0] for old, new in zip(rows_of(PAGE), rows_of(CHINESE_PAGE), strict=True)}
    translated = [
        line.replace(f"| {case.what} |", f"| {chinese.get(case.what, case.what)} |", 1)
        for line, case in zip(rows, CASES, strict=True)
    ]
    head = re.split(r"^\| 1 \|", CHINESE_PAGE.read_text(encoding="utf-8"), maxsplit=1, flags=re.M)[0]
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")
    CHINESE_PAGE.write_text(head + "".join(translated), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "files"
    make_whole(folder)
    return folder


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.what for case in CASES])
def test_a_bad_input_ends_with_the_code_and_the_facts_of_the_page(number: int, whole: Path, tmp_path: Path) -> None:
    case = CASES[number]
    what, call, expected, exit_code = rows_of(PAGE)[number]
    message, code = outcome(case, whole, tmp_path / "here")
    assert (case.what, f"`bertwright {case.call}`", str(code)) == (what, call, exit_code)
    assert message
    assert "Traceback" not in message
    assert facts(expected, case) - facts(message, case) == set(), message


def test_the_page_has_a_row_of_every_case_and_speaks_of_every_verb() -> None:
    assert PAGE.read_text(encoding="utf-8").startswith(HEAD)
    assert len(rows_of(PAGE)) == len(CASES) >= 60
    assert {row[3] for row in rows_of(PAGE)} == {"1", "2"}
    verbs = {shlex.split(case.call)[0] for case in CASES}
    assert verbs >= set(VERBS) - {"quickstart", "bench"}


def test_facts_are_names_and_numbers() -> None:
    case = Case("an example", "prepare a.csv --out new")
    assert facts("a.csv row 3 (of 9) has 'x'; give --skip-broken for new", case) == {
        "a.csv", "3", "'x'", "--skip-broken", "new",
    }  # fmt: skip


if __name__ == "__main__":
    assert sys.argv[1:] == ["--write"], __doc__
    with tempfile.TemporaryDirectory() as scratch:
        make_whole(Path(scratch) / "whole")
        outcomes = [outcome(case, Path(scratch) / "whole", Path(scratch) / str(n)) for n, case in enumerate(CASES)]
    write_pages([row(n, case, *one) for n, (case, one) in enumerate(zip(CASES, outcomes, strict=True), start=1)])
