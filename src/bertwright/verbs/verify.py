"""Turns a DATA, RUN or MODEL folder, a checkpoint or a study into a table of what was checked: checksums, outputs.

What a check needs is imported by it: --help does not wait for arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertwright.errors import BertwrightError, ConfigError, DataError, InputError, ModelError
from bertwright.files import human_bytes, read_json
from bertwright.log import ResultTable, note
from bertwright.nested import read_toml
from bertwright.result import ResultList
from bertwright.verbs.calls.folder_kind import kind_of_folder


@dataclass(frozen=True)
class Check:
    """Something that was checked: what was found, what is wrong with it, if anything, and its status."""

    what: str
    found: str
    wrong: BertwrightError | None = None
    status: str = "whole"


def verify(thing: Path | str) -> ResultList[Check]:
    """Check that a DATA, RUN or MODEL folder is whole: checksums, reloading, and a model's answers to a probe.

    Shows what was checked, and ends with the first thing that is wrong, if any is (in Python an error, whose `result`
    is the table). Nothing is changed.

    Parameters
    ----------
    thing
        A DATA folder, a RUN folder (its checkpoints, metrics and model), a checkpoint, a study of tune (its trials,
        its result and its winner), or a MODEL folder that bertwright wrote.

    Raises
    ------
    InputError
        Where anything is wrong: DataError, or ModelError for checkpoints and models.

    Examples
    --------
    >>> verify("runs/en")[0].what  # needs a run  # doctest: +SKIP
    'checkpoint step-1200'
    """
    thing, began = Path(thing), time.perf_counter()
    kind = kind_of_folder(thing)
    if kind not in KINDS:
        raise InputError(
            f"{thing} is a {kind}; give the whole DATA folder it belongs to, a RUN, a checkpoint or a MODEL folder"
        )
    checks = KINDS[kind](thing)
    rows = [[check.what, check.found, check.status if check.wrong is None else "DAMAGED"] for check in checks]
    title = f"{thing}, a {kind if kind in ('checkpoint', 'study') else kind.upper()} folder"
    result = ResultList(checks, ResultTable(title, ["what", "checked", "is"], rows))
    note(f"checked in {time.perf_counter() - began:.1f} s")
    wrong = next((check.wrong for check in checks if check.wrong is not None), None)
    if wrong is not None:
        wrong.result = result
        raise wrong
    return result


def verify_data(data: Path) -> list[Check]:
    """Compare tokenizer, shards and neighbour counts with their checksums, and open every shard.

    Counts that a run kept in an older folder are checked, too, by the checksum in their file.
    """
    from bertwright.corpus.cooccurrence import NEIGHBOURS, read_neighbours
    from bertwright.corpus.manifest import check_tokenizer, read_manifest
    from bertwright.corpus.shards import Shards, check_shards

    manifest = read_manifest(data)
    splits = manifest["splits"]

    def opened() -> str:
        shards = [Shards.open(data, split) for split in splits]
        documents, tokens = sum(one.document_count for one in shards), sum(one.token_count for one in shards)
        return f"{documents:,} documents, {tokens:,} tokens"

    def counted() -> str:
        counts = read_neighbours(
            data,
            fingerprint=manifest["fingerprint"],
            vocab_size=manifest["tokenizer"]["vocab_size"],
            digest=manifest.get("neighbours", {}).get("xxh3_128"),
        )
        return f"XXH3 of {human_bytes((data / NEIGHBOURS).stat().st_size)}, {len(counts.words):,} words"

    checks = [
        _checked("tokenizer", lambda: f"SHA-256 of {check_tokenizer(data).name}"),
        _checked("shards", lambda: f"SHA-256 of {human_bytes(check_shards(data))}, fingerprint"),
        _checked("contents", opened),
    ]
    if "neighbours" in manifest or (data / NEIGHBOURS).exists():
        checks.append(_checked("neighbour counts", counted))
    return checks


def verify_run(run: Path) -> list[Check]:
    """Compare every checkpoint with its checksums and read it, read metrics.jsonl, and check the model, if it is there.

    A checkpoint of fine-tuning is checked where several seeds were trained, too.
    """
    from bertwright.train.checkpoint.folder import checkpoints, kept_before_decay

    saved = [folder for one in (run, *sorted((run / "seeds").glob("*"))) for folder in checkpoints(one)]
    saved += kept_before_decay(run)
    checks = [check for folder in saved for check in verify_checkpoint(folder)]
    if "[start]" in (run / "config.toml").read_text(encoding="utf-8", errors="replace"):
        checks.append(_checked("start", lambda: _start_of(run, saved)))
    if (run / "metrics.jsonl").is_file():
        checks.append(_checked("metrics.jsonl", lambda: _lines_of(run)))
    for name in ("model", "model-nsp", "model-sop", "model-generator"):
        if (run / name).is_dir():
            found = verify_model(run / name, must_have_checksums=True)
            checks += [replace(check, what=check.what.replace("model", name, 1)) for check in found]
    return checks or [Check("run", "nothing yet", ModelError(f"{run} holds no checkpoint and no model yet"))]


def _start_of(run: Path, saved: Sequence[Path]) -> str:
    """Say which model a run went on from, or raise ModelError where its files do not agree on that."""
    try:
        start = read_toml(run / "config.toml")["start"]
        written = {"manifest.json": read_json(run / "manifest.json").get("start")}
        written |= {folder.name: read_json(folder / "position.json")["identity"].get("start") for folder in saved}
        odd = [name for name, one in written.items() if one is None or one["sha256"] != start["sha256"]]
        found = f"{start['model_type']}, SHA-256 {start['sha256'][:12]}"
    except (ConfigError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{run} does not say which model it went on from ({error!r}); restore it from a copy"
        ) from error
    if odd:
        raise ModelError(f"{run / 'config.toml'} and {odd[0]} name other models to go on from; restore one from a copy")
    return f"{found}, in config.toml and {len(written)} other files"


def _lines_of(run: Path) -> str:
    """Say how many lines metrics.jsonl has, or raise ModelError where one is lost, doubled or no JSON."""
    from bertwright.train.callbacks.metrics_file import read_metrics

    try:
        steps = [int(line["step"]) for line in read_metrics(run / "metrics.jsonl")]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"{run / 'metrics.jsonl'} is damaged ({error}); --resume writes its last lines again"
        ) from error
    if steps != sorted(set(steps)):
        raise ModelError(f"the steps in {run / 'metrics.jsonl'} do not rise from line to line; restore it from a copy")
    return f"{len(steps):,} lines, steps in order"


def verify_study(folder: Path) -> list[Check]:
    """Read study.json, the database of trials and, where the study is done, its result, its recipe and its winner."""
    checks = [
        _checked("study.json", lambda: f"tune {_json_of(folder / 'study.json')['identity']['the task']}"),
        _checked("study.db", lambda: _trials_of(folder / "study.db")),
    ]
    if (folder / "result.json").is_file():
        checks.append(_checked("result.json", lambda: f"{len(_json_of(folder / 'result.json')['trials'])} trials"))
        checks.append(_checked("recipe.toml", lambda: f"{len(read_toml(folder / 'recipe.toml'))} sections"))
    if (folder / "winner" / "config.toml").is_file():
        checks += [replace(check, what=f"winner: {check.what}") for check in verify_run(folder / "winner")]
    return checks


def _json_of(file: Path) -> dict[str, Any]:
    """Return what a file of a study holds, or raise ModelError."""
    try:
        found = read_json(file)
        return {"identity": dict(found["identity"])} if "identity" in found else {"trials": list(found["trials"])}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelError(f"{file} is damaged ({error!r}); restore it from a copy") from error


def _trials_of(file: Path) -> str:
    """Say how many trials a database holds, or raise ModelError where SQLite finds it damaged."""
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (state,) = database.execute("PRAGMA integrity_check").fetchone()
            (count,) = database.execute("SELECT COUNT(*) FROM trials").fetchone()
    except sqlite3.Error as error:
        raise ModelError(f"{file} is damaged ({error}); restore it from a copy") from error
    if state != "ok":
        raise ModelError(f"{file} is damaged ({state}); restore it from a copy")
    return f"{count:,} trials, integrity check of SQLite"


def verify_checkpoint(folder: Path) -> list[Check]:
    """Compare the files of a checkpoint with their checksums, and read it."""
    from bertwright.train.checkpoint.folder import MANIFEST, read_checkpoint

    def read() -> str:
        files = _checksums(folder, MANIFEST)
        state, _ = read_checkpoint(folder, identity={})
        return f"step {state.step:,}: {files}, {human_bytes(state.bytes)} of tensors read"

    return [_checked(f"checkpoint {folder.name}", read)]


def verify_model(model: Path, *, must_have_checksums: bool = False) -> list[Check]:
    """Compare the files of a model with their checksums, reload it, and compare its outputs with those written down.

    One that bertwright did not write has no checksums: its weights are read, unless it must have them.
    """
    from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_side
    from bertwright.hub.encoder_folder import read_encoder
    from bertwright.hub.nsp_folder import is_next_sentence_folder, read_nsp_encoder
    from bertwright.hub.reference_outputs import CHECKSUMS, TOLERANCE, output_difference

    def compared() -> str:
        other = read_nsp_encoder if is_next_sentence_folder(model) else read_encoder
        off = output_difference(model, read_encoder_side if is_encoder_decoder(model) else other)
        if not off <= TOLERANCE:
            raise ModelError(
                f"the model in {model} no longer gives what it gave when it was written (its outputs for fixed tokens "
                f"are off by {off:.1e}); restore the folder from a copy, or compare the versions"
            )
        return f"outputs for fixed tokens within {off:.0e} of those written down"

    if not (model / CHECKSUMS).is_file():
        if not must_have_checksums:
            return [
                Check("model files", f"no {CHECKSUMS} to compare them with", status="unknown"),
                _checked("model weights", lambda: _weights_of(model)),
            ]
        missing = ModelError(
            f"{model} has no {CHECKSUMS}, so there is nothing to compare it with; restore it from a copy"
        )
        return [Check("model files", "no checksums", missing)]
    return [_checked("model files", lambda: _checksums(model, CHECKSUMS)), _checked("model outputs", compared)]


def _weights_of(model: Path) -> str:
    """Say how many weights of a folder fit its config.json and its tokenizer, or raise ModelError."""
    from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_decoder
    from bertwright.hub.encoder_folder import read_model
    from bertwright.model.random_state import kept_random_state
    from bertwright.tokenizer.load import load_tokenizer

    with kept_random_state():
        network = read_encoder_decoder(model).model if is_encoder_decoder(model) else read_model(model)[0]
    load_tokenizer(model)
    return f"{sum(one.numel() for one in network.parameters()):,} read; they fit config.json and the tokenizer"


def _checksums(folder: Path, name: str) -> str:
    """Say how many files of a folder are as they were written, or raise ModelError with the first that is not."""
    from bertwright.checksums import count_listed, damage

    wrong = damage(folder, name)
    if wrong is not None:
        raise ModelError(f"{folder} is damaged: {wrong}; restore it from a copy")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"XXH3 of {count_listed(folder, name)} files, {human_bytes(size)}"


def _checked(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, look())
    except (DataError, InputError) as error:
        return Check(what, "", error)


KINDS: dict[str, Callable[[Path], list[Check]]] = {
    "data": verify_data,
    "run": verify_run,
    "study": verify_study,
    "checkpoint": verify_checkpoint,
    "model": verify_model,
}
"""What can be verified, by the names `show` has for it."""
