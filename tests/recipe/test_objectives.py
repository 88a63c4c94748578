"""Short runs of objectives other than masking and next sentences: resumed they are the same, and verbs know them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import load_model
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.export import export
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict
from bertwright.verbs.pretrain import pretrain
from bertwright.verbs.show import show
from bertwright.verbs.verify import verify

ENGINE: dict[str, Any] = {
    "compile": False, "precision": "fp32", "evaluations": 1, "evaluation_rows": 32, "checkpoint_steps": 2, "keep": 9,
    "log_every": 1,
}  # fmt: skip
PAIR = ("The cat number 3 sees the dog near river 1.", "Then the cat runs to house 4 and eats.")


def settings_of(steps: int = 6, phases: list[dict[str, Any]] | None = None, **objective: Any) -> dict[str, Any]:
    phases = phases or [{"length": 32, "rows": 8, "share": 1.0}]
    return {
        "size": "tiny",
        "objective": objective,
        "schedule": {"steps": steps, "phases": phases},
        "engine": ENGINE,
    }


def weights(run: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run / name / "model.safetensors")


def resumed_is_the_same(data: Path, run: Path, again: Path, *, step: int) -> None:
    """Go on from a checkpoint of a finished run in a copy of it: all weights are the same bit for bit."""
    later = [f"step-{number}" for number in range(step + 1, 99)]
    shutil.copytree(run, again, ignore=shutil.ignore_patterns("model*", "result.json", *later))
    pretrain(data, again, resume=True)
    for folder in sorted(folder.name for folder in run.glob("model*")):
        for name, tensor in weights(run, folder).items():
            assert torch.equal(weights(again, folder)[name], tensor), (folder, name)


@pytest.mark.parametrize(("recipe", "names"), [("classic", ["uncertain", "nsp"]), ("fast", ["uncertain"])])
def test_masks_by_uncertainty_are_the_same_when_resumed(
    recipe: str, names: list[str], data: Path, tmp_path: Path
) -> None:
    """With dropout, whole words and a falling rate; from a checkpoint whose weights decide the masks after it."""
    settings = settings_of(names=names, whole_word=True, mask_rate=0.3, final_mask_rate=0.15)
    pretrain(data, tmp_path / "run", recipe=recipe, settings=settings)
    resumed_is_the_same(data, tmp_path / "run", tmp_path / "again", step=2)
    masked = show(tmp_path / "run", batch=1, num_rows=2)["rows"]
    assert masked[0]["masked"]


@pytest.mark.parametrize("recipe", ["classic", "fast"])
def test_a_causal_phase_comes_first_and_resumes_on_either_side(recipe: str, data: Path, tmp_path: Path) -> None:
    """`classic` has pairs, whose loss waits for the masked phase; `fast` has packed rows and local blocks."""
    phases = [{"length": 32, "rows": 8, "share": 0.5, "causal": True}, {"length": 32, "rows": 8, "share": 0.5}]
    settings = settings_of(phases=phases, **({} if recipe == "classic" else {"next_sentence": False}))
    if recipe == "fast":
        settings |= {"data": {"pack": True, "fill_rows": False}, "model": {"global_every": 2}}
    pretrain(data, tmp_path / "run", recipe=recipe, settings=settings)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    parts = {"mlm_loss", "nsp_loss"} if recipe == "classic" else {"mlm_loss"}
    named = [{"causal_loss", *parts} & line.keys() for line in lines]
    assert named == [{"causal_loss"}] * 3 + [parts] * 3
    assert "mlm_loss" in lines[-1]["valid"]
    for step in (2, 4):
        resumed_is_the_same(data, tmp_path / "run", tmp_path / f"again-{step}", step=step)
    first = show(tmp_path / "run", batch=0, num_rows=1)["rows"][0]
    tokens = first["tokens"]
    assert all(tokens[int(place) + 1] == label for place, label in first["masked"].items())
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.fixture(scope="module")
def ordered(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of sentence order prediction, of BERT and of ModernBERT."""
    folder = tmp_path_factory.mktemp("ordered")
    for recipe in ("classic", "fast"):
        pretrain(data, folder / recipe, recipe=recipe, settings=settings_of(names=["mlm", "sop"]))
    return {recipe: folder / recipe for recipe in ("classic", "fast")}


@pytest.mark.parametrize(("recipe", "folder"), [("classic", "model"), ("fast", "model-sop")])
def test_verbs_know_a_head_that_tells_the_order(
    recipe: str, folder: str, ordered: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    run, model = ordered[recipe], ordered[recipe] / folder
    figures = json.loads((run / "result.json").read_text())["valid"]
    assert {"sop_loss", "sop_accuracy", "sop_balanced_accuracy", "sop_majority"} <= figures.keys()
    again = evaluate("sop", model, data)
    assert again["sop_loss"] == pytest.approx(figures["sop_loss"], abs=1e-5)
    assert ("mlm_loss" in again) is (recipe == "classic")
    with pytest.raises(ModelError, match="evaluate sop"):
        evaluate("nsp", model, data)
    (answer,) = predict(model, PAIR)
    assert 0 < answer["in_order"] < 1
    assert "next" not in answer
    assert "order" in str(predict(model, PAIR))
    assert "sop_loss" in read_metrics(run / "metrics.jsonl")[-1]
    assert "A stands before B" in str(show(run, batch=0)) or "swapped" in str(show(run, batch=0))
    assert any(check.what.startswith(folder) for check in verify(run))
    export(model, tmp_path / "onnx")
    (exported,) = predict(tmp_path / "onnx", PAIR)
    assert exported["in_order"] == pytest.approx(answer["in_order"], abs=1e-4)


def test_stock_transformers_names_the_order(ordered: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    (answer,) = predict(ordered["fast"] / "model-sop", PAIR)
    ask = transformers.pipeline("text-classification", model=str(ordered["fast"] / "model-sop"), top_k=None)
    predicted = {line["label"]: line["score"] for line in ask({"text": PAIR[0], "text_pair": PAIR[1]})}
    assert predicted["in_order"] == pytest.approx(answer["in_order"], abs=1e-5)
    assert predicted.keys() == {"in_order", "swapped"}


def test_a_next_sentence_head_is_not_asked_for_the_order(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run", recipe="classic", settings=settings_of(steps=1))
    with pytest.raises(ModelError, match="evaluate nsp"):
        evaluate("sop", tmp_path / "run" / "model", data)


@pytest.fixture(scope="module")
def electra(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of replaced-token detection, averaged weights and all."""
    run = tmp_path_factory.mktemp("electra") / "run"
    settings = settings_of(names=["rtd"], mask_rate=0.3, final_mask_rate=0.15)
    model = {"architecture": "electra", "neighbour_start": True, "sinusoidal_start": True}
    pretrain(data, run, recipe="classic", settings={**settings, "model": model, "average": {"name": "ema"}})
    return run


def test_both_models_of_a_run_are_trained_resumed_and_known_to_verbs(electra: Path, data: Path, tmp_path: Path) -> None:
    lines = read_metrics(electra / "metrics.jsonl")
    assert {"mlm_loss", "mlm_accuracy", "rtd_loss", "rtd_accuracy"} <= lines[-1].keys()
    figures = json.loads((electra / "result.json").read_text())
    assert {"mlm_loss", "rtd_loss", "rtd_balanced_accuracy", "rtd_majority"} <= figures["valid"].keys()
    assert figures["samples"]
    resumed_is_the_same(data, electra, tmp_path / "again", step=4)
    assert evaluate("mlm", electra / "model-generator", data)["mlm_loss"] == pytest.approx(
        figures["valid"]["mlm_loss"], abs=1e-5
    )
    with pytest.raises(ModelError, match="model-generator"):
        evaluate("mlm", electra / "model", data)
    (answer,) = predict(electra / "model", ["The cat number 3 sees the dog near river 1."])
    assert all(0 < chance < 1 for _, chance in answer["replaced"])
    assert "".join(token.removeprefix("##") for token, _ in answer["replaced"]).startswith("thecat")
    assert "replaced" in str(predict(electra / "model", ["The cat sees the dog."]))
    asked = ["The cat sees the [MASK]."]
    (guess,) = predict(electra / "model-generator", asked)[0]["predictions"]
    export(electra / "model-generator", tmp_path / "onnx")
    (exported,) = predict(tmp_path / "onnx", asked)[0]["predictions"]
    assert [word for word, _ in exported] == [word for word, _ in guess]
    with pytest.raises(ModelError, match="model-generator"):
        export(electra / "model", tmp_path / "onnx-of-model")
    assert {check.what for check in verify(electra)} >= {"model outputs", "model-generator outputs"}
    assert "ElectraForPreTraining" in str(show(electra / "model"))
    assert show(electra, batch=1, num_rows=1)["rows"]
    assert "replaced" in str(show(electra))


def test_stock_transformers_gives_the_scores_of_both(electra: Path) -> None:
    """The classes of the folders, their logits, and the embeddings that both share."""
    transformers = pytest.importorskip("transformers")
    ours, generator = load_model(electra / "model"), load_model(electra / "model-generator")
    torch.manual_seed(0)
    mask = torch.arange(20) < torch.tensor([20, 11])[:, None]
    ids = torch.randint(5, ours.config.vocab_size, (2, 20)) * mask
    given = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": ids * 0}
    hidden = ours.encode(ids, ids * 0, mask), generator.encode(ids, ids * 0, mask)
    with torch.inference_mode():
        for cls, folder, expected in (
            (transformers.ElectraForPreTraining, "model", ours.rtd_logits(hidden[0])),
            (transformers.ElectraForMaskedLM, "model-generator", generator.mlm_logits(hidden[1])),
        ):
            theirs, info = cls.from_pretrained(electra / folder, output_loading_info=True)
            assert not any(info.values()), info
            assert json.loads((electra / folder / "config.json").read_text())["architectures"] == [cls.__name__]
            torch.testing.assert_close(expected[mask], theirs.eval()(**given).logits[mask], atol=1e-4, rtol=0)
    shared = weights(electra), weights(electra, "model-generator")
    names = [name for name in shared[0] if name.startswith("electra.embeddings.")]
    assert len(names) == 5
    assert all(torch.equal(shared[0][name], shared[1][name]) for name in names)


def test_a_discriminator_is_fine_tuned(electra: Path, tmp_path: Path) -> None:
    lines = [f"The {animal} sees river {n}.\t{animal}" for n in range(12) for animal in ("cat", "dog")]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n", encoding="utf-8")
    figures = finetune(
        "classify", electra / "model", tmp_path / "train.tsv", tmp_path / "dev.tsv", tmp_path / "run",
        settings={"precision": "fp32", "schedule": {"epochs": 1}},
    )  # fmt: skip
    assert 0 <= figures["dev"]["accuracy"] <= 1
    assert predict(tmp_path / "run" / "model", ["The cat sees river 3."])[0]["label"] in ("cat", "dog")
