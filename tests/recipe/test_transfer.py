"""Strategies of transfer, heads of other kinds and resuming, each in a short real run that a user could have made."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

import bertwright.train.task_setup.seeds as seeds_of_run
from bertwright.cli.main import main
from bertwright.errors import ConfigError, CorpusError, Interrupted, ModelError, OutputExistsError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.reports.pretrain_result import TIMED_IN_LINES
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

TOPICS = {"music": ["song", "band"], "food": ["meal", "soup"], "sport": ["goal", "race"]}
OTHERS = ["the", "a", "was", "and", "then", "came"]
NAMES, PLACES = ["anna", "bert", "carl dorn"], ["rome", "oslo", "new delhi"]
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 6},
    "optimizer": {"learning_rate": 3e-3},
    "batches": {"rows": 16},
    "transfer": {"dropout": 0.0},
}
TIMES = {*TIMED_IN_LINES, "examples_per_second"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained BERT of two blocks, with dropout."""
    folder = tmp_path_factory.mktemp("model")
    words = [
        *(word for words in TOPICS.values() for word in words),
        *OTHERS,
        *" ".join(NAMES + PLACES).split(),
        "lives",
        "in",
        ".",
        ",",
    ]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    tokens = load_tokenizer(folder).vocab_size
    shape = named_size("tiny", vocab_size=tokens, hidden_size=32, heads=2, max_positions=32, initializer_range=0.2)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def texts(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Texts, and which topics are in them."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        topics = [topic for topic in TOPICS if random.random() < 0.4]
        words = [str(random.choice(TOPICS[topic])) for topic in topics] + list(random.choice(OTHERS, size=4))
        rows.append((" ".join(random.permutation(words)), topics))
    return rows


def one_topic(folder: Path, *, train: int = 96, classes: int = 3) -> dict[str, Path]:
    """Tables of texts with one topic each."""
    files = {}
    for seed, (split, size) in enumerate({"train": train, "dev": 40}.items()):
        rows = [(text, topics[0]) for text, topics in texts(8 * size, seed) if len(topics) == 1]
        kept = [(text, topic) for text, topic in rows if topic in list(TOPICS)[:classes]][:size]
        files[split] = folder / f"{split}.tsv"
        files[split].write_text("text\tlabel\n" + "".join(f"{text}\t{topic}\n" for text, topic in kept))
    return files


def tagged(folder: Path, sizes: dict[str, int]) -> dict[str, Path]:
    files = {}
    for seed, (split, size) in enumerate(sizes.items()):
        random, sentences = np.random.default_rng(seed), []
        for _ in range(size):
            lines = []
            for kind, words in (("PER", str(random.choice(NAMES))), ("LOC", str(random.choice(PLACES)))):
                lines += [f"{word} {'I' if place else 'B'}-{kind}" for place, word in enumerate(words.split())]
                lines += ["lives O", "in O"] if kind == "PER" else [". O"]
            sentences.append("\n".join(lines))
        files[split] = folder / f"{split}.conll"
        files[split].write_text("\n\n".join(sentences) + "\n")
    return files


@pytest.fixture(scope="module")
def learned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells the three topics."""
    folder = tmp_path_factory.mktemp("learned")
    settings = {**QUICK, "schedule": {"epochs": 4}}
    figures = finetune("classify", model, **one_topic(folder, train=240), out=folder / "run", settings=settings)
    assert figures["dev"]["accuracy"] > 0.95
    return folder / "run" / "model"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_several_labels_a_text(model: Path, tmp_path: Path) -> None:
    for seed, (split, size) in enumerate({"train": 240, "dev": 60}.items()):
        rows = [{"text": text, "label": topics} for text, topics in texts(size, seed)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "dev")}
    settings = {**QUICK, "head": {"multi_label": True}, "schedule": {"epochs": 8}}
    figures = finetune("classify", model, **files, out=tmp_path / "run", settings=settings)
    assert figures["dev"]["f1_micro"] > 0.9
    assert figures["dev"]["subset_accuracy"] > 0.7
    assert "figures by label" in (tmp_path / "run" / "report.html").read_text()
    run = tmp_path / "run" / "model"
    assert evaluate("classify", run, tmp_path / "dev.jsonl") == figures["dev"]
    inputs = [text for text, _ in texts(30, 5)]
    thresholds = json.loads((run / "config.json").read_text())["bertwright"]["thresholds"]
    assert figures["thresholds"] == thresholds
    answers = predict(run, inputs, output=tmp_path / "answers.jsonl")
    ask = transformers.pipeline("text-classification", model=str(run), device="cpu", top_k=None)
    assert ask.model.config.problem_type == "multi_label_classification"
    for ours, theirs in zip(answers, ask(inputs), strict=True):
        shares = {one["label"]: one["score"] for one in theirs}
        assert ours["probabilities"] == pytest.approx(shares, abs=1e-5)
        assert ours["labels"] == [label for label in ("food", "music", "sport") if shares[label] > thresholds[label]]


def test_a_crf_learns_and_what_it_says_is_lawful(model: Path, tmp_path: Path) -> None:
    files = tagged(tmp_path, {"train": 200, "dev": 40})
    figures = finetune("tag", model, **files, out=tmp_path / "run", settings={**QUICK, "head": {"crf": True}})
    assert figures["dev"]["f1"] > 0.95
    run = tmp_path / "run" / "model"
    assert evaluate("tag", run, files["dev"]) == figures["dev"]
    [answer] = predict(run, ["carl dorn lives in new delhi."], output=tmp_path / "answers.jsonl")
    assert [(one["type"], one["text"]) for one in answer["entities"]] == [("PER", "carl dorn"), ("LOC", "new delhi")]
    transitions = safetensors.torch.load_file(run / "crf.safetensors")
    assert float(transitions["next"].abs().max()) > 0.1
    (run / "crf.safetensors").unlink()
    assert evaluate("tag", run, files["dev"])["loss"] != figures["dev"]["loss"]


@pytest.mark.parametrize(
    "transfer",
    [{"freeze": "all"}, {"unfreeze": 0.5}, {"lora_rank": 4}, {"r_drop": 1.0}],
    ids=["head alone", "gradual", "lora", "r-drop"],
)
def test_strategies_with_best_checkpoint_and_patience(learned: Path, tmp_path: Path, transfer: dict[str, Any]) -> None:
    files = one_topic(tmp_path)
    settings = {**QUICK, "transfer": transfer, "watch": {"patience": 2, "metric": "loss"}}
    figures = finetune("classify", learned, **files, out=tmp_path / "run", settings=settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    evaluated = {line["step"]: line["valid"]["loss"] for line in lines if "valid" in line}
    assert min(evaluated.values()) == evaluated[figures["best_step"]]
    assert figures["dev"]["loss"] == pytest.approx(evaluated[figures["best_step"]], abs=1e-6)
    before, after = weights(learned), weights(tmp_path / "run" / "model")
    moved = {name for name, tensor in before.items() if name in after and not torch.equal(tensor, after[name])}
    inside = {name for name in before if "encoder.layer" in name or "embeddings" in name}
    adapted = {name for name in inside if "query.weight" in name or "value.weight" in name}
    expected = {"freeze": set(), "lora_rank": adapted}.get(next(iter(transfer)), inside)
    assert {name for name in moved if name in inside and "token_type" not in name} == {
        name for name in expected if "token_type" not in name
    }
    assert figures["dev"]["accuracy"] > 0.9
    assert ("r_drop_loss" in lines[0]) == ("r_drop" in transfer)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert sum(parameter.numel() for parameter in theirs.parameters()) == figures["parameters"]
    assert evaluate("classify", tmp_path / "run" / "model", files["dev"]) == figures["dev"]


def test_another_task_first(model: Path, learned: Path, tmp_path: Path) -> None:
    """A model of three topics goes on as one of two topics, and as a tagger: its encoder is taken, its head is not."""
    head_alone = {**QUICK, "transfer": {"freeze": "all"}}
    files = one_topic(tmp_path, train=32, classes=2)
    known, fresh = (
        finetune("classify", start, **files, out=tmp_path / name, settings=head_alone)
        for start, name in ((learned, "known"), (model, "fresh"))
    )
    assert known["labels"] == ["food", "music"]
    assert known["dev"]["accuracy"] > fresh["dev"]["accuracy"] + 0.2
    files = tagged(tmp_path, {"train": 32, "dev": 8})
    tagger = finetune("tag", learned, **files, out=tmp_path / "tagger", settings=QUICK)
    assert len(tagger["labels"]) == 5
    with pytest.raises(UsageError, match=r"tag.*classify"):
        evaluate("classify", tmp_path / "tagger" / "model", one_topic(tmp_path)["dev"])


class Killed(BaseException):
    """Stands for kill -9: nothing gets to say anything, and what is on the disk is all there is."""


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """Call something at the n-th step from now, over all seeds."""
    train = seeds_of_run.train

    def stop_at(step: int, act: Callable[[], None]) -> None:
        steps = iter(range(1, 1_000_000))

        class Act(Callback):
            def on_step(self, report: StepReport) -> None:
                if next(steps) == step:
                    act()

        def stopped(state: Any, loader: Any, objective: Any, callbacks: Any, **named: Any) -> None:
            train(state, loader, objective, [Act(), *callbacks], **named)

        monkeypatch.setattr(seeds_of_run, "train", stopped)

    yield stop_at
    monkeypatch.undo()


def kill() -> None:
    raise Killed


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def lines_of(run: Path) -> list[Any]:
    return [without_times(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("transfer", "head", "stop"),
    [
        ({"unfreeze": 0.6, "r_drop": 1.0}, {"class_weights": "balanced"}, 15),
        ({"lora_rank": 2, "layer_decay": 0.9}, {}, 18),
    ],
    ids=["gradual", "lora"],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    model: Path,
    tmp_path: Path,
    stopping: Callable[[int, Callable[[], None]], None],
    transfer: dict[str, Any],
    head: dict[str, Any],
    stop: int,
) -> None:
    """Six steps an epoch, three epochs: killed in the second one, then asked to stop in the third, or at its end."""
    files = one_topic(tmp_path)
    settings = {**QUICK, "schedule": {"epochs": 3}, "transfer": transfer, "head": head}
    settings["watch"] = {"checkpoint_steps": 4, "log_every": 5, "patience": 3}
    whole = finetune("classify", model, **files, out=tmp_path / "whole", settings=settings)
    out = tmp_path / "run"
    stopping(10, kill)
    with pytest.raises(Killed):
        finetune("classify", model, **files, out=out, settings=settings)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-8"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ModelError, match=r"watch\.patience.*3.*5"):
        finetune("classify", model, **files, out=out, resume=True, settings={"watch": {"patience": 5}})
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    stopping(stop - 8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match=f"step {stop}"):
        finetune("classify", model, **files, out=out, resume=True)
    resumed = finetune("classify", model, **files, out=out, resume=True)
    assert without_times(resumed) == without_times(whole)
    assert lines_of(out) == lines_of(tmp_path / "whole")
    mine, theirs = weights(out / "model"), weights(tmp_path / "whole" / "model")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not (out / "checkpoints").exists()
    with pytest.raises(OutputExistsError, match="resume"):
        finetune("classify", model, **files, out=out, resume=True)


def test_finished_seeds_are_not_trained_again(
    model: Path, tmp_path: Path, stopping: Callable[[int, Callable[[], None]], None]
) -> None:
    """Six steps a seed; killed in the third seed before its first checkpoint, and then in its midst."""
    files, settings = one_topic(tmp_path), {**QUICK, "schedule": {"epochs": 1}}
    whole = finetune("classify", model, **files, out=tmp_path / "whole", num_seeds=3, settings=settings)
    out = tmp_path / "run"
    stopping(13, kill)
    with pytest.raises(Killed):
        finetune("classify", model, **files, out=out, num_seeds=3, settings=settings)
    assert len(json.loads((out / "checkpoints" / "finished" / "seeds.json").read_text())["seen"]) == 2
    with pytest.raises(ModelError, match="dev file"):
        finetune("classify", model, files["train"], files["train"], out, num_seeds=3, resume=True)
    (out / "checkpoints" / "finished").rename(out / "checkpoints" / ".finished.replaced")  # killed between renames
    stopping(7, kill)
    resumed = finetune("classify", model, **files, out=out, num_seeds=3, resume=True)
    assert without_times(resumed) == without_times(whole)
    assert lines_of(out) == lines_of(tmp_path / "whole")
    mine, theirs = weights(out / "model"), weights(tmp_path / "whole" / "model")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_runs_that_cannot_be_resumed(model: Path, tmp_path: Path) -> None:
    files = one_topic(tmp_path)
    with pytest.raises(ModelError, match="resume"):
        finetune("classify", model, **files, out=tmp_path / "run", resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text('task = "tag"\n')
    with pytest.raises(ModelError, match="classify"):
        finetune("classify", model, **files, out=tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.toml").write_text('task = "classify"\n')
    (tmp_path / "run" / "manifest.json").write_text('{"seeds": 3}')
    with pytest.raises(ModelError, match="--num-seeds 3"):
        finetune("classify", model, **files, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            "tag",
            {"head": {"multi_label": True}},
            r"head.multi_label.*tag.*classify",
        ),
        ("classify", {"head": {"crf": True}}, r"head.crf.*classify.*tag"),
        ("classify", {"head": {"class_weights": {"art": 2}}}, r"'art'.*food, music, sport"),
        ("classify", {"transfer": {"freeze": 9}}, r"2 blocks.*9"),
        ("classify", {"transfer": {"freeze": "all", "lora_rank": 2}}, "every block"),
        ("classify", {"transfer": {"unfreeze": 0.5, "lora_rank": 2}}, "transfer.unfreeze"),
        (
            "classify",
            {"transfer": {"unfreeze": 0.5}, "engine": {"compile": True}},
            "thaw",
        ),
        ("classify", {"transfer": {"lora_rank": 2, "lora_matrices": ["keys"]}}, "transfer.lora_matrices"),
        ("classify", {"transfer": {"lora_alpha": 4.0}}, r"transfer.lora_rank.*0"),
        ("classify", {"transfer": {"freeze": "some"}}, r"^transfer.freeze.*'some'"),
        ("answer", {"transfer": {"r_drop": 1.0}}, r"transfer.r_drop.*answer"),
        ("embed", {"transfer": {"lora_rank": 2}}, r"transfer.lora_rank.*embed.*dropout, freeze, layer_decay"),
        ("embed", {"head": {"crf": True}}, r"head.crf.*embed"),
    ],
)
def test_heads_and_strategies_that_do_not_fit(
    model: Path, tmp_path: Path, task: str, settings: dict[str, Any], message: str
) -> None:
    files = tagged(tmp_path, {"train": 4, "dev": 4}) if task == "tag" else one_topic(tmp_path)
    with pytest.raises(ConfigError, match=message):
        finetune(task, model, **files, out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("split", "text", "message"),
    [
        ("train", "anna B-PER\nlives\n", r"train.conll line 2.*1 columns.*2.*'lives'"),
        ("train", "anna\nlives\n", r"line 1.*1 columns"),
        ("train", "anna B-PER\nlives O\nrome LOC\n", r"line 3.*'LOC'"),
        ("dev", "anna B-PER\nlives O\nrome B-GPE\n", r"dev.conll line 3.*'B-GPE'"),
        ("dev", "\n\n", "no words"),
    ],
)
def test_bad_tag_files_are_one_sentence(model: Path, tmp_path: Path, split: str, text: str, message: str) -> None:
    files = tagged(tmp_path, {"train": 4, "dev": 4})
    files[split].write_text(text)
    with pytest.raises(CorpusError, match=message):
        finetune("tag", model, **files, out=tmp_path / "run", settings=QUICK)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("split", "lines", "message"),
    [
        ("train", ["a song\t", "a meal\t"], "no label"),
        ("dev", ["a song\tmusic|art"], r"dev.tsv row 1.*'art'"),
        ("train", ['a song\t["music"', "a meal\tfood"], r"row 1.*list"),
        (
            "train",
            ["food\ta song", "food\tthe meal", "food\tthe soup was", "sport\tthe race"],
            "swapped",
        ),
    ],
)
def test_bad_label_lists_are_one_sentence(
    model: Path, tmp_path: Path, split: str, lines: list[str], message: str
) -> None:
    files = {"train": ["a song\tmusic", "a meal\tfood|sport"], "dev": ["a song\tmusic"]} | {split: lines}
    for name, rows in files.items():
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    settings = {**QUICK, "head": {"multi_label": True}}
    with pytest.raises(CorpusError, match=message):
        finetune("classify", model, tmp_path / "train.tsv", tmp_path / "dev.tsv", tmp_path / "run", settings=settings)


def test_pairs_of_which_one_is_missing(model: Path, learned: Path, tmp_path: Path) -> None:
    for split in ("train", "dev"):
        rows = ["sentence1\tsentence2\tlabel", "a song\ta band\t1", "a meal\t\t0", "a goal\tthe race\t1"]
        (tmp_path / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    with pytest.raises(CorpusError, match=r"1 rows.*sentence2.*row 2"):
        finetune("classify", model, tmp_path / "train.tsv", tmp_path / "dev.tsv", tmp_path / "run")
    (tmp_path / "asked.txt").write_text("a song\ta band\na meal\n")
    with pytest.raises(UsageError, match=r"asked\.txt, line 1.*pair.*single"):
        predict(learned, input=tmp_path / "asked.txt", output=tmp_path / "answers.jsonl")


def test_texts_past_the_positions_are_cut_and_told(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(learned, ["a song " * 40, "a meal"], output=tmp_path / "answers.jsonl")
    assert re.search("1 of 2 texts.*32 tokens", capsys.readouterr().err)


def test_lists_without_the_flag_say_which(model: Path, tmp_path: Path) -> None:
    for split in ("train", "dev"):
        rows = [{"text": "a song", "labels": ["music"]}, {"text": "a meal", "labels": ["food", "sport"]}]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(CorpusError, match=r"lists.*--multi-label"):
        finetune("classify", model, tmp_path / "train.jsonl", tmp_path / "dev.jsonl", tmp_path / "run")


def test_the_flags_at_the_terminal(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = one_topic(tmp_path, train=32)
    words = ["finetune", "classify", "--model", str(model), "--train", str(files["train"]), "--dev", str(files["dev"])]
    words += ["--out", str(tmp_path / "run"), "--epochs", "1"]
    flags = ["--class-weights", "food=1,music=2.5", "--lora-rank", "2", "--lora-matrices", "query,inner"]
    assert main([*words, "--class-weights", "food"]) == 2
    assert re.search("balanced.*NAME=WEIGHT", capsys.readouterr().err)
    assert main([*words, "--decoder-layers", "2"]) == 2
    assert re.search("--decoder-layers.*translate.*classify", capsys.readouterr().err)
    assert main([*words, *flags]) == 0
    settings = (tmp_path / "run" / "config.toml").read_text()
    assert 'lora_matrices = [\n    "query",\n    "inner",\n]' in settings
    assert "music = 2.5" in settings
    assert main([*words, *flags, "--resume"]) == 1
    assert "resume" in capsys.readouterr().err
