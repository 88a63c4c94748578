"""Next sentences on the fast path: a short run of ModernBERT with both heads, and every verb that meets its folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertwright.cli.main import main
from bertwright.errors import ModelError, UsageError
from bertwright.hub.nsp_folder import read_next_sentence
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.export import export
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict
from bertwright.verbs.pretrain import pretrain
from bertwright.verbs.show import show
from bertwright.verbs.verify import verify

PAIRS = {"objective": {"next_sentence": True}}
SHORT: dict[str, Any] = {
    "size": "tiny",
    "schedule": {
        "steps": 12,
        "phases": [{"length": 32, "rows": 8, "share": 0.75}, {"length": 64, "rows": 4, "share": 0.25}],
    },
    "engine": {"compile": False, "precision": "fp32", "log_every": 5, "evaluations": 2, "evaluation_rows": 32},
    **PAIRS,
}
QUESTION = ("The cat number 3 sees the dog near river 1.", "Then the cat runs to house 4 and eats.")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; its weights are its own, and so are its answers."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    pretrain(data, folder, recipe="fast", settings=SHORT)
    return folder


def test_a_run_says_what_it_switched_off_and_writes_two_models(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", "fast", "--size", "tiny", "--steps", "3", "--objective.next-sentence", "true"]
    words += ["--engine.compile", "false", "--engine.evaluation-rows", "32"]
    assert main(["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), *words]) == 0
    assert capsys.readouterr().err.count("data.fill_rows is off") == 1
    kept = (tmp_path / "run" / "config.toml").read_text()
    assert "fill_rows = false" in kept
    assert "next_sentence = true" in kept
    content = json.loads((tmp_path / "run" / "model-nsp" / "config.json").read_text())
    assert content["architectures"] == ["ModernBertForSequenceClassification"]
    assert content["id2label"] == {"0": "is_next", "1": "random"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["next_sentence_model"] == "model-nsp"
    for name in ("model", "model-nsp"):
        assert "model-nsp" in (tmp_path / "run" / "model" / "README.md").read_text()
        assert "ModernBert" in (tmp_path / "run" / name / "README.md").read_text()


def test_stock_transformers_answers_as_predict_does(run: Path) -> None:
    """Texts in, probabilities out: the tokenizer of the folder frames a pair as training did."""
    transformers = pytest.importorskip("transformers")
    (answer,) = predict(run / "model-nsp", QUESTION)
    ask = transformers.pipeline("text-classification", model=str(run / "model-nsp"), top_k=None)
    predicted = {line["label"]: line["score"] for line in ask({"text": QUESTION[0], "text_pair": QUESTION[1]})}
    assert predicted["is_next"] == pytest.approx(answer["next"], abs=1e-5)
    assert (answer["first"], answer["second"]) == QUESTION


def test_the_encoders_of_both_folders_are_one(run: Path) -> None:
    pairs, words = (load_file(run / name / "model.safetensors") for name in ("model-nsp", "model"))
    encoder = [name for name in words if name.startswith("model.")]
    assert len(encoder) > 10
    assert all(torch.equal(pairs[name], words[name]) for name in encoder)


def test_each_folder_says_where_the_other_head_is(run: Path, data: Path) -> None:
    pairs, words = run / "model-nsp", run / "model"
    assert len(predict(words, ["The [MASK] eats."])[0]["predictions"]) == 1
    for call in (
        lambda: predict(words, QUESTION),
        lambda: evaluate("nsp", words, data, length=32, num_rows=32),
    ):
        with pytest.raises(ModelError, match=f"next-sentence.*{re.escape(str(pairs))}$"):
            call()
    for call in (
        lambda: predict(pairs, ["The [MASK] eats."]),
        lambda: evaluate("mlm", pairs, data, length=32, num_rows=32),
    ):
        with pytest.raises(ModelError, match=f"masked-token.*{re.escape(str(words))}$"):
            call()
    with pytest.raises(UsageError, match="two texts"):
        predict(pairs, ["The cat eats."])


def test_evaluate_repeats_the_last_evaluation_of_the_run(run: Path, data: Path) -> None:
    ended = json.loads((run / "result.json").read_text())["valid"]
    again = evaluate("nsp", run / "model-nsp", data, length=32, num_rows=32)
    assert again.pop("rows")["number"] == 32
    assert again == pytest.approx({name: ended[name] for name in again}, abs=2e-5)
    assert {"nsp_loss", "nsp_accuracy"} <= again.keys()
    assert not any(name.startswith("mlm") for name in again)


def test_verify_reads_both_models_and_finds_a_head_that_answers_otherwise(run: Path, tmp_path: Path) -> None:
    assert {"model files", "model outputs", "model-nsp files", "model-nsp outputs"} <= {
        check.what for check in verify(run)
    }
    assert len(verify(run / "model-nsp")) == 2
    copy = tmp_path / "model-nsp"
    copy.mkdir()
    for file in (run / "model-nsp").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = json.loads((copy / "checksums.json").read_text())
    content["probe"]["next_sentence"][5] += 0.01
    (copy / "checksums.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"\de-0\d"):
        verify(copy)


def test_show_knows_them(run: Path) -> None:
    assert re.search(r"next-sentence head\W+model-nsp", str(show(run)))
    shown = str(show(run / "model-nsp"))
    assert "ModernBertForSequenceClassification" in shown
    assert "is_next, random" in shown


def test_an_exported_head_answers_the_same(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(run / "model-nsp", tmp_path / "onnx")
    (expected,), (answer,) = predict(run / "model-nsp", QUESTION), predict(tmp_path / "onnx", QUESTION)
    assert answer == {**expected, "next": pytest.approx(expected["next"], abs=1e-5)}
    with pytest.raises(ModelError, match="masked-token"):
        predict(tmp_path / "onnx", ["The [MASK] eats."])


@pytest.mark.parametrize("name", ["model", "model-nsp"])
def test_finetuning_goes_on_from_either(name: str, run: Path, tmp_path: Path) -> None:
    """What comes out is a classifier like any other, with its own labels."""
    lines = [
        "label\tsentence1\tsentence2",
        *(f"{'yes' if n % 2 else 'no'}\tthe cat {n}\tthe dog {n % 2}" for n in range(40)),
    ]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    settings = {"schedule": {"epochs": 1}, "batches": {"rows": 8}, "engine": {"compile": False}}
    file = tmp_path / "train.tsv"
    finetune("classify", run / name, file, file, tmp_path / "tuned", settings=settings)
    (answer,) = predict(tmp_path / "tuned" / "model", ["the cat 3", "the dog 1"])
    assert answer["label"] in ("yes", "no")


def test_a_resumed_run_equals_one_never_stopped(data: Path, tmp_path: Path) -> None:
    """Both heads, their moments, averaged weights, accumulation and dropout; stopped between two checkpoints."""
    settings = {
        **SHORT,
        "model": {"dropout": 0.1, "attention_dropout": 0.1},
        "average": {"name": "ema", "share": 0.6},
        "engine": {**SHORT["engine"], "accumulation": 2, "checkpoint_steps": 7},
    }
    pretrain(data, tmp_path / "whole", recipe="fast", settings=settings)
    from bertwright.train.callbacks.save import CheckpointCallback

    usual = CheckpointCallback.on_step

    def killed(self: CheckpointCallback, report: Any) -> None:
        usual(self, report)
        if report.progress.step == 8:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_step", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(data, tmp_path / "stopped", recipe="fast", settings=settings)
    assert not (tmp_path / "stopped" / "model-nsp").exists()
    pretrain(data, tmp_path / "stopped", resume=True)
    for name in ("model", "model-nsp"):
        whole, resumed = (load_file(tmp_path / of / name / "model.safetensors") for of in ("whole", "stopped"))
        assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.items()), name


def test_a_checkpoint_without_the_head_is_refused(data: Path, tmp_path: Path) -> None:
    without = {**SHORT, "objective": {"next_sentence": False}, "schedule": {"steps": 2}}
    pretrain(data, tmp_path / "run", recipe="fast", settings=without)
    assert not (tmp_path / "run" / "model-nsp").exists()
    with pytest.raises(ModelError, match="was made with"):
        pretrain(data, tmp_path / "run", settings=PAIRS, resume=True)


def test_a_head_says_the_same_in_a_row_with_padding(run: Path) -> None:
    model = read_next_sentence(run / "model-nsp")[0]
    ids = torch.randint(5, 512, (1, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    padded, longer = (torch.nn.functional.pad(one, (0, 30)) for one in (ids, mask))
    with torch.inference_mode():
        short = model.nsp_logits(model.encode(ids, ids * 0, mask))
        long = model.nsp_logits(model.encode(padded, padded * 0, longer))
    assert short is not None
    assert long is not None
    np.testing.assert_allclose(short.numpy(), long.numpy(), atol=1e-5)
