"""Short real studies: the winner is no worse than the defaults, a study goes on, one of something else is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.cli.main import main
from bertwright.errors import ModelError, OutputExistsError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.result import Result
from bertwright.search import time_plan
from bertwright.search.finals import FINALISTS, ROUNDS
from bertwright.search.shared_study import opened
from bertwright.search.task_trials import TaskTrials
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.base import Callback
from bertwright.verbs.calls.tuning import pretrain_trials, study_winner
from bertwright.verbs.calls.tuning.pretrain_trials import PretrainTrials
from bertwright.verbs.calls.tuning.study_call import study_call
from bertwright.verbs.calls.tuning.study_run import begin, tunable_of
from bertwright.verbs.calls.tuning.study_worker import work
from bertwright.verbs.finetune import finetune
from bertwright.verbs.tune import tune

WORDS = ["the", "was", "film", "song", "meal", "walk", "fine", "great", "lovely", "poor", "dull", "awful"]
QUICK: dict[str, Any] = {"precision": "fp32", "optimizer": {"learning_rate": 5e-3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained encoders, and labelled texts: the word that decides stands at the end."""
    folder = tmp_path_factory.mktemp("tune")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    for name, width in (("a", 16), ("b", 32)):
        torch.manual_seed(0)
        tokens = load_tokenizer(folder).vocab_size
        shape = named_size("tiny", architecture="bert", vocab_size=tokens, hidden_size=width, heads=2, max_positions=32)
        save_model(build_encoder(shape), folder / "tokenizer.json", folder / name)
    random = np.random.default_rng(0)
    for split, count in (("train", 120), ("dev", 60), ("test", 60)):
        rows = []
        for _ in range(count):
            good = int(random.integers(2))
            words = [
                *random.choice(WORDS[:6], int(random.integers(2, 8))),
                random.choice(WORDS[6 + 3 * (1 - good) :][:3]),
            ]
            rows.append(f"{' '.join(map(str, words))}\t{('bad', 'good')[good]}")
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return folder


def call(folder: Path, **given: Any) -> dict[str, Any]:
    files = {name: folder / f"{name}.tsv" for name in ("train", "dev", "test")}
    return {
        "task": "classify",
        "model": folder / "a",
        **files,
        "minutes": 10,
        "num_seeds": 1,
        "settings": QUICK,
    } | given


def test_a_study_finds_a_winner_goes_on_and_refuses_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_plan, "RUNS_WORTH", ())  # a run a trial
    out, models = tmp_path / "study", [folder / "a", folder / "b"]
    figures = tune(**call(folder, out=out, model=models, trials=4, num_seeds=2))
    trials, winner = figures["trials"], figures["winner"]
    assert [one["model"] for one in trials[:2]] == [str(one) for one in models]
    assert [one["defaults"] for one in trials] == [True, True, False, False]
    finalists = [one for one in trials if one["further"]]
    assert sorted(one["dev"] for one in finalists)[-1] == max(one["dev"] for one in trials if one["whole"])
    assert any(one["defaults"] for one in finalists)
    assert [len(one["further"]) for one in finalists] == [ROUNDS] * FINALISTS
    assert mean(winner["further"]) == max(mean(one["further"]) for one in finalists)
    assert "run again to choose" in str(figures)
    assert all(one["settings"].get("schedule.epochs", 3) <= 12 for one in trials)
    assert figures["retrained"]["seeds"] == 2
    assert len(figures["retrained"]["test_each"]) == 2
    assert figures["models"][str(models[1])]["parameters"] > figures["models"][str(models[0])]["parameters"]
    assert json.loads((out / "result.json").read_text()) == json.loads(figures.to_json())
    for name in ("report.html", "recipe.toml", "study.db", "winner/model/config.json"):
        assert (out / name).is_file(), name
    assert f"{figures['retrained']['test']:.4f}" in str(figures)

    found = tomllib.loads((out / "recipe.toml").read_text())
    assert found["task"] == "classify"
    run = finetune("classify", winner["model"], folder / "train.tsv", out=tmp_path / "run", recipe=out / "recipe.toml")
    kept = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert run["learning_rate"] == winner["settings"].get("optimizer.learning_rate", 5e-3)
    for name, value in winner["settings"].items():
        section, field = name.split(".")
        assert kept[section].get(field) == value, name
    with pytest.raises(UsageError, match="not for tag"):
        finetune("tag", winner["model"], folder / "train.tsv", out=tmp_path / "no", recipe=out / "recipe.toml")

    again = tune(**call(folder, out=out, model=models, trials=5, num_seeds=2))
    assert again["trials"][:4] == trials
    assert len(again["trials"]) == 5
    if again["winner"]["trial"] == winner["trial"]:
        assert again["retrained"] == figures["retrained"]
    others: list[dict[str, Any]] = [
        {"model": models[0]},
        {"train": folder / "test.tsv"},
        {"settings": {**QUICK, "schedule": {"epochs": 2}}},
    ]
    for other in others:
        with pytest.raises(ModelError, match=str(out)):
            tune(**call(folder, out=out, **({"model": models} | other)))


def test_folds_take_the_place_of_dev(folder: Path, tmp_path: Path) -> None:
    given = call(folder, out=tmp_path / "study", folds=3, trials=2) | {"dev": None}
    figures = tune(**given)
    assert [len(one["runs"]) for one in figures["trials"] if one["whole"]] == [3] * sum(
        one["whole"] for one in figures["trials"]
    )
    files = {name: folder / f"{name}.tsv" for name in ("train", "test")}
    setups = TaskTrials("classify", [folder / "a"], files, QUICK, folds=3).setups[str(folder / "a")]
    held = [set(setup.splits["dev"].examples.keys()) for setup in setups]
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]
    every = sum(len(setup.splits["dev"].examples) for setup in setups)
    assert every == 120
    for setup in setups:
        share = float(setup.splits["dev"].examples.targets.mean())
        assert share == pytest.approx(float(setup.splits["train"].examples.targets.mean()), abs=0.06)
        assert len(setup.splits["train"].examples) + len(setup.splits["dev"].examples) == 120


def test_a_run_of_a_trial_is_what_finetune_would_do(folder: Path, tmp_path: Path) -> None:
    """The same seed and settings, evaluated at the end: the figure of the last epoch of `finetune`."""
    files = {name: folder / f"{name}.tsv" for name in ("train", "dev")}
    settings = {**QUICK, "schedule": {"epochs": 3}, "engine": {"compile": False}}
    trials = TaskTrials("classify", [folder / "a"], files, settings, folds=0)
    run = trials.run(trials.first[0], 1, Callback())
    finetune("classify", folder / "a", *files.values(), tmp_path / "run", seed=1, settings=settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert run.figure == [line["valid"]["accuracy"] for line in lines if "valid" in line][-1]
    assert len(run.parts) == 6
    assert np.mean(run.parts) == pytest.approx(run.figure)
    assert trials.run(trials.first[0], 1, Callback()).figure == run.figure


def write_files(folder: Path, task: str) -> dict[str, Path]:
    """Write train and dev files of a task."""
    random, found = np.random.default_rng(1), {}
    for split in ("train", "dev"):
        texts = [" ".join(map(str, random.choice(WORDS, 5))) for _ in range(40)]
        if task == "translate":
            for side in ("en", "de"):
                (folder / f"{split}.{side}").write_text("\n".join(texts) + "\n", encoding="utf-8")
            found[split] = Path(f"{folder / split}.en,{folder / split}.de")
            continue
        found[split] = folder / f"{split}.{task}.{'conll' if task == 'tag' else 'tsv'}"
        if task == "tag":
            sentences = [
                "\n".join(f"{word} {'B-X' if word in WORDS[6:] else 'O'}" for word in text.split()) for text in texts
            ]
            found[split].write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
        elif task == "regress":
            rows = [f"{text}\t{sum(word in WORDS[6:9] for word in text.split())}" for text in texts]
            found[split].write_text("\n".join(["text\tscore", *rows]) + "\n", encoding="utf-8")
        else:
            rows = [f"{text}\t{' '.join(reversed(text.split()))}" for text in texts]
            found[split].write_text("\n".join(["text1\ttext2", *rows]) + "\n", encoding="utf-8")
    return found


def test_the_passages_of_a_query_are_in_one_part(folder: Path, tmp_path: Path) -> None:
    files = {}
    for split in ("train", "dev"):
        rows = [f"query {query} of {split}\tpassage {n}\t{int(n == 0)}" for query in range(40) for n in range(5)]
        files[split] = tmp_path / f"{split}.tsv"
        files[split].write_text("\n".join(["query\tpassage\tlabel", *rows]) + "\n", encoding="utf-8")
    (setup,) = TaskTrials("rank", [folder / "a"], files, QUICK, folds=0).setups[str(folder / "a")]
    parts = [set(one.examples.groups()) for name, one in setup.splits.items() if name.startswith("dev.")]
    assert [len(part) for part in parts] == [10] * 4
    assert sum(len(setup.splits[f"dev.{part}"].examples) for part in range(4)) == 200


@pytest.mark.parametrize("task", ["tag", "regress", "embed", "translate"])
def test_every_kind_of_task_is_tuned(task: str, folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"precision": "fp32", "translate": {"source": "en", "target": "de"}}
    given = {name: value for name, value in settings.items() if name == "precision" or task == "translate"}
    trials = TaskTrials(task, [folder / "a"], write_files(tmp_path, task), given, folds=0)
    speed = trials.measure(each=1, alone=1)[str(folder / "a")]
    assert min(speed.epoch, speed.evaluation, speed.latency) > 0
    trials.limit_epochs({str(folder / "a"): 5})
    params = dict(trials.first[1]) | ({"head.crf": True} if task == "tag" else {})
    run = trials.run(params, 0, Callback())
    assert len(run.parts) == 4
    assert np.isfinite([run.figure, *run.parts]).all()
    assert trials.run(trials.first[0], 0, Callback()).figure == trials.run(trials.first[0], 0, Callback()).figure


def test_a_killed_study_goes_on(folder: Path, tmp_path: Path) -> None:
    """kill -9 in a trial: it is begun again with the runs that it had."""
    out = tmp_path / "study"
    words = ["tune", "classify", "--model", "a", "--train", "train.tsv", "--dev", "dev.tsv", "--out", str(out)]
    words += ["--minutes", "10", "--trials", "2", "--num-seeds", "1", "--learning-rate", "5e-3", "--precision", "fp32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "bertwright", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("trial 1:"):
                break
        process.kill()
        process.wait()
        process.stderr.close()
        assert main(words) == 0
    figures = json.loads((out / "result.json").read_text())
    assert len(figures["trials"]) == 2
    assert all(len(one["runs"]) == figures["runs"] for one in figures["trials"] if one["whole"])
    assert figures["trials"][0]["defaults"]


def test_a_helping_process_runs_trials_and_leaves_the_winner_to_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_plan, "RUNS_WORTH", ())  # a run a trial
    out, files = tmp_path / "study", {name: folder / f"{name}.tsv" for name in ("train", "dev", "test")}
    begun = study_call(
        "classify", QUICK, out=out, model=folder / "a", data=(), recipe=None, minutes=10.0, num_seeds=None, folds=0,
        processes=2, trials=2, files=files,
    )  # fmt: skip
    out.mkdir()
    begin(begun, tunable_of(begun), spent=0.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO(begun.to_json() + "\n"))
    assert work() == 0
    with opened(out, tunable_of(begun)) as shared:
        assert [one.number for one in shared.tried()] == [0, 1]
        assert 0 < shared.study.user_attrs["seconds"] < 600
    assert not (out / "winner").exists()
    (out / "study.json").write_text('{"identity": {"the task": "tag"}, "plan": {}}', encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(begun.to_json() + "\n"))
    assert work() == 1


def test_calls_that_make_no_study_are_refused(folder: Path, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"minutes": 0.001}, {"minutes": -1}, {"folds": 5}, {"folds": 1, "dev": None}, {"num_seeds": 0},
        {"processes": 0}, {"trials": 0}, {"data": tmp_path}, {"train": None}, {"model": ()},
        {"model": [folder / "a", folder / "a"]}, {"task": "pretrain"}, {"task": "sing"}, {"crf": True},
        {"size": "mini"},
    ]  # fmt: skip
    for given in wrong:
        with pytest.raises(UsageError):
            tune(**call(folder, out=tmp_path / "study", **given))
        assert not (tmp_path / "study").exists(), given
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputExistsError):
        tune(**call(folder, out=tmp_path / "taken"))


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    plan = tune(**call(folder, out=tmp_path / "study", dry_run=True))
    assert plan["runs_in_time"] > 0
    assert "schedule.epochs" in plan["space"]
    assert "optimizer.learning_rate" not in plan["space"]
    assert not (tmp_path / "study").exists()


def test_pretraining_is_tuned_on_short_runs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made up: their loss falls with the rate of Muon, so that the highest that is drawn wins."""
    calls: list[dict[str, Any]] = []

    def made_up(folders: Any, out: Path, *, settings: dict[str, Any], **_: Any) -> Result:
        calls.append(settings)
        rate = settings.get("optimizer", {}).get("muon_learning_rate", 0.01)
        return Result({"valid": {"mlm_loss": 5 - 10 * rate}})

    monkeypatch.setattr(pretrain_trials, "pretrain", made_up)
    monkeypatch.setattr(study_winner, "pretrain", made_up)
    monkeypatch.setattr(PretrainTrials, "step_seconds", lambda self, threads: 0.01)
    out = tmp_path / "study"
    figures = tune("pretrain", data=data, out=out, minutes=20, trials=4, size="tiny")
    assert figures["winner"]["dev"] == min(one["dev"] for one in figures["trials"])
    assert figures["winner"]["settings"]["optimizer.muon_learning_rate"] >= 0.02
    assert figures["defaults"]["trial"] == 0
    assert len({one["schedule"]["minutes"] for one in calls}) == 1
    assert 1 < calls[0]["schedule"]["minutes"] < 20 / 15
    assert [one["seed"] for one in calls] == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3 + [4]  # trials, finals, winner
    recipe = tomllib.loads((out / "recipe.toml").read_text())
    assert recipe["extends"] == "classic-fast"
    assert recipe["optimizer"] == {
        name.partition(".")[2]: value
        for name, value in figures["winner"]["settings"].items()
        if name.startswith("optimizer.")
    }
    with pytest.raises(UsageError, match="--minutes"):
        tune("pretrain", data=data, out=tmp_path / "other", minutes=1)
