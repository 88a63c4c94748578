"""What CONTRIBUTING.md says one adds for an objective, an architecture, a task, an optimizer or a verb is enough."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import bertwright
from bertwright.cli.main import main
from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.hub.mappings.known import MAPPINGS
from bertwright.model.build import ARCHITECTURES, build_encoder, named_size
from bertwright.objectives.combine import OBJECTIVES
from bertwright.tasks.by_name import TASKS
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.optimizers import OPTIMIZERS, build_optimizers, set_rates
from bertwright.verbs import VERBS
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict
from bertwright.verbs.pretrain import pretrain

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n# src/(\S+)\.py(?:: (\w+))?\n(.*?)^```", flags=re.M | re.S)
FAMILIES: dict[str, dict[str, Any]] = {
    "OBJECTIVES": OBJECTIVES,
    "ARCHITECTURES": ARCHITECTURES,
    "MAPPINGS": MAPPINGS,
    "TASKS": TASKS,
    "OPTIMIZERS": OPTIMIZERS,
    "VERBS": VERBS,
}
SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 3, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {
        "compile": False,
        "precision": "fp32",
        "evaluations": 1,
        "evaluation_rows": 32,
        "checkpoint_steps": 1,
        "keep": 5,
    },
}

Add = Callable[[str], None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Return what adds the files and lines of a section of CONTRIBUTING.md, for one test."""

    def add_section(title: str) -> None:
        section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
        names: dict[str, Any] = {}
        found = BLOCK.findall(section)
        assert {family for _, family, _ in found} - {""}, f"{title} adds no line"
        for path, family, code in found:
            if family:
                for name, value in eval(f"{{{code}}}", names).items():
                    assert name not in FAMILIES[family]
                    monkeypatch.setitem(FAMILIES[family], name, value)
                continue
            module = ModuleType(path.replace("/", "."))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            exec(compile(code, path, "exec", dont_inherit=True), module.__dict__)
            names |= vars(module)

    return add_section


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_an_objective_with_a_generator_is_trained_resumed_and_left_out_of_the_model(
    add: Add, data: Path, tmp_path: Path
) -> None:
    add("Add an objective")
    objective = {"names": ["replaced"], "options": {"replaced": {"width": 32}}}
    settings = {**SMALL, "objective": objective}
    figures = pretrain(data, tmp_path / "run", recipe="classic", settings=settings)
    assert "mlm_loss" in figures["valid"]
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert {"mlm_loss", "generator_loss", "generator_accuracy"} <= last.keys()
    assert "nsp_loss" not in last
    checkpoint = load_file(tmp_path / "run" / "checkpoints" / "step-3" / "weights.safetensors")
    first = load_file(tmp_path / "run" / "checkpoints" / "step-1" / "weights.safetensors")
    of_generator = [name for name in checkpoint if name.startswith("auxiliary.")]
    assert any(not torch.equal(checkpoint[name], first[name]) for name in of_generator)
    assert not [name for name in weights(tmp_path / "run") if "auxiliary" in name]
    assert load_model(tmp_path / "run" / "model").config.hidden_size == 128

    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again, ignore=shutil.ignore_patterns("model", "result.json", "step-2", "step-3"))
    pretrain(data, again, resume=True)
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(weights(again)[name], tensor), name


def test_an_architecture_is_built_run_forward_written_and_read(add: Add, data: Path, tmp_path: Path) -> None:
    add("Add an architecture")
    tokenizer = load_tokenizer(data)
    torch.manual_seed(0)
    model = build_encoder(named_size("tiny", architecture="deep", vocab_size=tokenizer.vocab_size)).eval()
    assert model.config.layers == 4
    ids = torch.randint(5, tokenizer.vocab_size, (2, 9))
    logits = model.mlm_logits(model.encode(ids, torch.zeros_like(ids), ids > 0))
    assert logits.shape == (2, 9, tokenizer.vocab_size)
    save_model(model, tokenizer.path.parent, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is type(model)
    assert torch.equal(again.mlm_logits(again.encode(ids, torch.zeros_like(ids), ids > 0)), logits)


def test_a_task_is_trained_evaluated_and_asked(add: Add, data: Path, tmp_path: Path) -> None:
    add("Add a task")
    tokenizer = load_tokenizer(data)
    save_model(
        build_encoder(named_size("tiny", vocab_size=tokenizer.vocab_size)), tokenizer.path.parent, tmp_path / "encoder"
    )
    animals = ["cat", "dog", "horse", "owl"]
    lines = [f"The {animals[n % 4]} sees river {n}.\t{(n % 4) / 4 + n / 1000}" for n in range(32)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tscore", *lines]) + "\n", encoding="utf-8")
    figures = finetune(
        "share", tmp_path / "encoder", tmp_path / "train.tsv", tmp_path / "dev.tsv", tmp_path / "run",
        settings={"precision": "fp32", "schedule": {"epochs": 1}, "batches": {"rows": 16}},
    )  # fmt: skip
    assert figures["steps"] == 2
    answers = predict(tmp_path / "run" / "model", ["The cat sees river 3.", "The owl sees river 3."])
    assert all(0 < answer["score"] < 1 for answer in answers)
    evaluated = evaluate("share", tmp_path / "run" / "model", tmp_path / "dev.tsv")
    assert evaluated["pearson"] == pytest.approx(figures["dev"]["pearson"], abs=1e-5)
    assert "text-classification" in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")


def test_an_optimizer_steps_by_its_definition(add: Add) -> None:
    add("Add an optimizer")
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    config = OptimizerConfig(name="lion", learning_rate=0.1, beta1=0.9, beta2=0.99, weight_decay=0.5)
    optimizers = build_optimizers(model, config)
    set_rates(optimizers, factor=0.5, progress=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model(torch.ones(1, 3)).sum().backward()  # every gradient is 1
    optimizers[0].step()
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.05 * 0.5) - 0.05)
    torch.testing.assert_close(model.bias.detach(), before["bias"] - 0.05)


def test_a_verb_is_called_at_the_terminal_and_from_python(
    add: Add, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("Add a verb")
    assert main(["count", str(data), "--split", "valid"]) == 0
    assert "documents" in capsys.readouterr().out
    assert main(["count", "--help"]) == 0
    assert "valid" in capsys.readouterr().out
    assert bertwright.count(data)["documents"] > 100
