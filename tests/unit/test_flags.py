"""Flags stand for settings, old names go on working, flags of other programs are answered, and defaults are true."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path
from typing import Any

import pytest

import bertwright
from bertwright.cli.main import VERBS, build_app, main
from bertwright.cli.terminal.help_panels import DEFAULT_RECIPE, shown_defaults
from bertwright.configs.names import RECIPES
from bertwright.errors import ConfigError, UsageError
from bertwright.flags import EARLIER, HUGGING_FACE, dashed, from_earlier, set_by
from bertwright.train.interval import Interval
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.task_setup.finetune_config import FinetuneConfig, TranslateConfig
from bertwright.verbs.calls.finetune_flags import FinetuneCall, FinetuneFlags, finetune_settings
from bertwright.verbs.calls.pretrain_flags import PretrainFlags, pretrain_settings

CALLS = {
    "pretrain": ["pretrain", "--data", "nowhere", "--out", "new"],
    "finetune": ["finetune", "classify", "--model", "nowhere", "--train", "t.tsv", "--out", "new"],
    "prepare": ["prepare", "nowhere", "--out", "new"],
}


def setting(config: Any, dotted: str) -> Any:
    """Return the value of a dotted setting."""
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def flags_of(verb: str) -> set[str]:
    """Return the flags of a verb."""
    arguments = build_app(overview=False)[verb].assemble_argument_collection()
    return {name for argument in arguments for name in argument.names}


@pytest.mark.parametrize(
    ("verb", "old", "new"), [(v, old, new) for v, names in EARLIER.items() for old, new in names.items()]
)
def test_earlier_flags_are_known_by_their_new_names_and_hidden(verb: str, old: str, new: str) -> None:
    assert from_earlier(verb, [verb, dashed(old), f"{dashed(old)}=2"]) == [verb, dashed(new), f"{dashed(new)}=2"]
    assert dashed(new) in flags_of(verb)
    assert dashed(old) not in flags_of(verb)


def test_earlier_flags_work_at_the_terminal_and_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("A text. Another sentence of it.\n" * 9, encoding="utf-8")
    inputs, out = [str(tmp_path / "one.txt")], str(tmp_path / "data")
    assert main(["prepare", *inputs, "--out", out, "--held-out", "7"]) == 2
    assert "--valid-fraction 7" in capsys.readouterr().err
    assert main(["prepare", *inputs, "--out", out, "--held-out=0", "--documents", "line", "--vocab-size", "512"]) == 0
    with pytest.raises(UsageError, match="--valid-fraction"):
        bertwright.prepare(inputs, out, held_out=7)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="given twice"):
        bertwright.prepare(inputs, out, held_out=0.5, valid_fraction=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("verb", "theirs", "ours"),
    [
        ("pretrain", "--per_device_train_batch_size", "--batch-size"),
        ("finetune", "--per-device-train-batch-size", "--batch-size"),
        ("pretrain", "--mlm-probability=0.3", "--mask-rate"),
        ("pretrain", "--num-train-epochs", "--epochs"),
        ("finetune", "--lr", "--learning-rate"),
        ("finetune", "--max_seq_length", "--seq-length"),
        ("pretrain", "--max-length", "--seq-length"),
        ("pretrain", "--gradient-accumulation-steps", "--accumulation"),
        ("finetune", "--fp16", "--precision"),
        ("pretrain", "--bf16", "--precision"),
        ("pretrain", "--output_dir", "--out"),
        ("finetune", "--model-name-or-path", "--model"),
        ("pretrain", "--logging_steps", "--engine.log-every"),
        ("finetune", "--logging_steps", "--watch.log-every"),
        ("prepare", "--output-dir", "--out"),
        ("pretrain", "--batchsize", "--batch-size"),
        ("pretrain", "--do_train", "leave it out"),
    ],
)
def test_a_flag_of_another_program_is_answered_with_ours(
    verb: str, theirs: str, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CALLS[verb], theirs, "8"]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert f" {ours}" in output
    assert theirs.partition("=")[0] in output


def test_flags_of_hugging_face_are_not_ours_and_lead_to_flags_or_settings() -> None:
    known = {name.removeprefix("--").replace("-", "_") for verb in VERBS for name in flags_of(verb)}
    sections = [*PretrainConfig.model_fields, *TranslateConfig.model_fields]
    for theirs, ours in HUGGING_FACE.items():
        assert all(one in known or one.split(".")[0] in sections for one in ours), theirs
    assert "per_device_train_batch_size" not in known


def test_a_wrong_name_in_python_is_answered_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="learning_rate"):
        bertwright.pretrain("data", tmp_path, lr=1e-3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="seq_length"):
        bertwright.finetune("classify", "m", "t", out="o", seqlength=9)  # type: ignore[call-arg]


PYTHON_ONLY = {"settings", "columns", "shard_text", "lowercase"}
"""Parameters that stand for several flags, for earlier ones, or are for tests."""


@pytest.mark.parametrize("verb", list(VERBS))
def test_python_functions_have_the_flags_of_the_command_line_and_their_defaults(verb: str) -> None:
    arguments = build_app(overview=False)[verb].assemble_argument_collection()
    of_command = {argument.name.lstrip("-").replace("-", "_").lower(): argument for argument in arguments}
    of_command = {name: argument for name, argument in of_command.items() if name not in ("json", "overrides", "*")}
    of_function = {
        name: one
        for name, one in inspect.signature(getattr(bertwright, verb)).parameters.items()
        if name not in PYTHON_ONLY
    }
    assert of_command.keys() == of_function.keys()
    for name, argument in of_command.items():
        default = argument.field_info.default
        if default not in (None, inspect.Parameter.empty):
            assert str(default) == str(of_function[name].default), name


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_in_python_shows_flags_with_their_meaning(verb: str) -> None:
    function = getattr(bertwright, verb)
    given = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert all(f"\n    {name}\n" in given for name in inspect.signature(function).parameters if name not in PYTHON_ONLY)
    assert f"\n    {verb}(" in pydoc.render_doc(bertwright, renderer=pydoc.plaintext)


def test_an_error_about_a_value_names_the_flag_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.tsv").write_text("text\tlabel\na\tb\n", encoding="utf-8")
    for words, flag in (
        ([*CALLS["pretrain"], "--mask-rate", "3"], "--mask-rate must be"),
        ([*CALLS["pretrain"], "--batch-size", "0"], "--batch-size must be"),
        ([*CALLS["pretrain"], "--objective.mask-rate", "3"], "objective.mask_rate must be"),
        ([*CALLS["finetune"], "--warmup", "2"], "--warmup must be"),
        ([*CALLS["finetune"], "--freeze-layers", "-1"], "--freeze-layers must be"),
    ):
        assert main(words) == 2
        assert flag in capsys.readouterr().err


PRETRAIN: dict[str, Any] = {
    "batch_size": 16, "seq_length": 64, "learning_rate": 2e-3, "muon_learning_rate": 0.03, "warmup": 0.2,
    "weight_decay": 0.3, "precision": "fp32", "device": "cpu", "accumulation": 4, "eval_every": "90s", "mask_rate": 0.4,
    "layers": 3, "heads": 4, "width": 256, "seed": 5, "size": "tiny", "steps": 7,
    "probe": ("pairs.jsonl",), "general": "general", "new_vectors": "mean",
}  # fmt: skip


def test_flags_of_pretrain_are_settings_of_the_run() -> None:
    config = resolve("classic-fast", pretrain_settings(PRETRAIN | {"save_every": 500}))
    elsewhere = {"schedule.rows": config.schedule.phases[0].rows, "schedule.length": config.schedule.phases[0].length}
    for name, mark in set_by(PretrainFlags).items():
        value = elsewhere.get(mark.setting) or setting(config, mark.setting)
        assert value == PRETRAIN.get(name), name
    assert config.objective.final_mask_rate is None
    assert config.objective.mask_phases == ()
    assert (config.engine.checkpoint_steps, config.engine.checkpoint_minutes) == (500, 5.0)
    assert pretrain_settings({"save_every": "30s"}) == {"engine": {"checkpoint_minutes": 0.5}}
    with pytest.raises(ConfigError, match="init-from"):
        resolve("classic-fast", pretrain_settings({"new_vectors": "neighbours"}))


def test_flags_of_finetune_are_settings_of_the_run() -> None:
    given: dict[str, Any] = {
        "batch_size": 8, "seq_length": 32, "learning_rate": 2e-3, "warmup": 0.2, "weight_decay": 0.3, "seed": 3,
        "precision": "fp32", "device": "cpu", "accumulation": 4, "eval_every": 5, "epochs": 2.0, "patience": 2,
    }  # fmt: skip
    config = FinetuneConfig.model_validate({"task": "classify", **finetune_settings("classify", given)})
    for name, value in given.items():
        assert setting(config, set_by(FinetuneFlags)[name].setting) == value
    settings = finetune_settings("translate", {"init_parts": "encoder", "encoding": "gb18030", "source": "en"})
    assert settings == {"translate": {"start": "encoder", "encoding": "gb18030", "source": "en"}}
    assert finetune_settings("tag", {"freeze_layers": "all"}) == {"transfer": {"freeze": "all"}}
    with pytest.raises(UsageError, match="--init-parts"):
        finetune_settings("tag", {"init_parts": "both"})


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_number_for_the_rows_of_phases_that_differ_is_refused(recipe: str) -> None:
    for flag, name in (("batch_size", "rows"), ("seq_length", "length")):
        settings = pretrain_settings({flag: 64})
        if len({getattr(phase, name) for phase in resolve(recipe, {}).schedule.phases}) > 1:
            with pytest.raises(ConfigError, match=dashed(flag)):
                resolve(recipe, settings)
        else:
            assert {getattr(phase, name) for phase in resolve(recipe, settings).schedule.phases} == {64}


def test_rows_of_a_recipe_do_not_win_over_phases_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('extends = "fast"\n[schedule]\nrows = 64\n', encoding="utf-8")
    assert resolve(str(tmp_path / "own.toml"), {}).schedule.phases[0].rows == 64
    phases = [{"length": 32, "rows": 4, "share": 1.0}]
    assert resolve(str(tmp_path / "own.toml"), {"schedule": {"phases": phases}}).schedule.phases[0].rows == 4


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"size": "mini", "layers": 6}, (6, 256, 4, 1024)),
        ({"size": "mini", "width": 384}, (4, 384, 6, 1536)),
        ({"size": "mini", "width": 200, "heads": 5}, (4, 200, 5, 800)),
        ({"size": "mini", "heads": 8}, (4, 256, 8, 1024)),
        ({"size": "tiny", "width": 200}, "--width"),
        ({"size": "tiny", "heads": 5}, "--heads"),
        ({"size": "tiny", "layers": 0}, "layers"),
    ],
)
def test_layers_width_and_heads(settings: dict[str, Any], shape: Any) -> None:
    for recipe in ("classic", "fast"):
        if isinstance(shape, str):
            with pytest.raises(ConfigError, match=shape):
                resolve(recipe, pretrain_settings(settings))
            continue
        config = resolve(recipe, pretrain_settings(settings))
        made = config.model.shape(config.size, vocab_size=64, pad_token_id=0)
        inner = shape[3] if recipe == "classic" else shape[3] // 2
        assert (made.layers, made.hidden_size, made.heads, made.intermediate_size) == (*shape[:3], inner)


def test_defaults_in_the_help_are_those_of_the_recipe_and_of_the_settings() -> None:
    for recipe in RECIPES:
        shown = shown_defaults(["pretrain", "--recipe", recipe])
        config = resolve(recipe, {})
        for name, mark in set_by(PretrainFlags).items():
            if shown.get(dashed(name), "").endswith(f" in {recipe}") and mark.setting not in (
                "schedule.rows",
                "schedule.length",
            ):
                value = setting(config, mark.setting)
                assert (
                    float(shown[dashed(name)].split()[0]) == value
                    if isinstance(value, float)
                    else str(value) in shown[dashed(name)]
                )
    assert shown_defaults(["pretrain", "--help"])["--batch-size"] == f"32 in {DEFAULT_RECIPE}"
    assert shown_defaults(["pretrain", "--recipe", "classic"])["--batch-size"] == "32 and 8 in classic"
    fresh = FinetuneConfig(task="classify")
    for name, given in shown_defaults(["finetune"]).items():
        mark = (set_by(FinetuneCall) | set_by(FinetuneFlags))[name[2:].replace("-", "_")].setting
        value = None if mark.partition(".")[0] in ("", "translate", "embed") else setting(fresh, mark)
        if isinstance(value, (int, float)) and name != "--learning-rate":  # that one depends on the width
            assert float(given.replace(";", " ").replace(":", " ").split()[0]) == value, name


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--help"]) == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"[default: 0.005 in {DEFAULT_RECIPE}]" in output
    assert "[default: auto]" in output


@pytest.mark.parametrize(
    ("given", "steps", "seconds"), [("500", 500, 0), (500, 500, 0), ("90s", None, 90), ("1.5h", None, 5400)]
)
def test_intervals(given: int | str, steps: int | None, seconds: float) -> None:
    assert Interval.parse(given) == Interval(steps, seconds)


@pytest.mark.parametrize("given", ["0", "often", "2 weeks", "-3", "0min", "1.5", ""])
def test_what_is_no_interval_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--save-every"):
        pretrain_settings({"save_every": given})
    with pytest.raises(ConfigError, match="evaluate_every"):
        resolve("classic", pretrain_settings({"eval_every": given}))


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'extends = "classic"\nseed = 3\n[optimizer]\nlearning_rate = 1e-4\n', encoding="utf-8"
    )
    own = tmp_path / "own.toml"
    own.write_text('extends = "base.toml"\n[schedule]\nsteps = 9\n', encoding="utf-8")
    config = resolve(str(own), {"optimizer": {"beta2": 0.9}})
    assert (config.seed, config.optimizer.learning_rate, config.optimizer.beta2) == (3, 1e-4, 0.9)
    assert (config.schedule.steps, config.schedule.minutes) == (9, None)
    assert len(config.schedule.phases) == 2
    (tmp_path / "base.toml").write_text('extends = "own.toml"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="extends itself"):
        resolve(str(own), {})
    own.write_text('extends = "clasic"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="'clasic'"):
        resolve(str(own), {})
