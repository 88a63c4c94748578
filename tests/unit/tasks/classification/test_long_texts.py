"""Texts longer than a row: how they are cut, how the scores of windows become one, in numpy and in torch alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.errors import ConfigError, CorpusError, ModelError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.by_name import config_to_keep, task_named, task_of_head
from bertwright.tasks.classification.long_texts import ClassifyLong, LongTexts, pool_windows
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.head import WINDOWS, HeadConfig, WindowPooling
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import LabelledBatch

COUNTS = np.array([1, 3, 2])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """Rows of 10 tokens of words that are numbers: 8 of a window."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(40))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(names[:5])
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    backend.save(str(file))
    return TextEncoder(load_tokenizer(file), max_length=10)


@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_windows_hold_all_of_a_text(encoder: TextEncoder, overlap: int) -> None:
    sizes = [0, 1, 8, 9, 16, 17, 40]
    texts = [" ".join(map(str, range(size))) for size in sizes]
    rows = encoder.windows_of(texts, overlap=overlap)
    assert rows.together is not None
    begins = np.cumsum(rows.lengths) - rows.lengths
    every = [rows.ids[b : b + n].tolist() for b, n in zip(begins, rows.lengths, strict=True)]
    done = 0
    for size, count in zip(sizes, rows.together.tolist(), strict=True):
        windows = [[token - 5 for token in row[1:-1]] for row in every[done : done + count]]
        done += count
        assert sorted(set().union(*windows)) == list(range(size))
        assert all(window == list(range(window[0], window[0] + len(window))) for window in windows if window)
        assert all(len(set(one) & set(two)) >= overlap for one, two in pairwise(windows))
        assert count == 1 or all(len(window) == 8 for window in windows)
        assert count == max(1, 1 + -(-(size - 8) // (8 - overlap)))
    assert done == len(every)
    with pytest.raises(ConfigError, match="overlap"):
        encoder.windows_of(texts, overlap=8)


def pooled_by_hand(scores: np.ndarray, pooling: WindowPooling) -> np.ndarray:
    found = []
    for end, count in zip(np.cumsum(COUNTS), COUNTS, strict=True):
        some = scores[end - count : end]
        if pooling == "attention":
            shares = np.exp(some[:, -1]) / np.exp(some[:, -1]).sum()
            found.append(shares @ some[:, :-1])
        else:
            found.append(some.max(0) if pooling == "max" else some.mean(0))
    return np.stack(found)


def examples() -> LongTexts:
    return LongTexts(Path("f"), ["a", "b", "c"], None, np.array([0, 1, 1]), windows=COUNTS)


@pytest.mark.parametrize("pooling", WINDOWS)
def test_scores_become_one_in_numpy_and_torch_alike(pooling: WindowPooling) -> None:
    task = ClassifyLong(("no", "yes"), pooling=pooling)
    scores = np.random.default_rng(0).normal(size=(6, len(task.outputs)), scale=3).astype(np.float32)
    wanted = pooled_by_hand(scores.astype(np.float64), pooling)
    np.testing.assert_allclose(task.pooled(scores, examples()), wanted, atol=1e-6)
    text = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    np.testing.assert_allclose(pool_windows(torch.from_numpy(scores), text, pooling).numpy(), wanted, atol=1e-5)
    far = pool_windows(1000 * torch.from_numpy(scores), text, pooling)
    assert far.isfinite().all()
    assert task.predictions(scores, examples())[1]["label"] == task.labels[wanted[1].argmax()]
    again = examples().take(np.array([1, 0]))
    assert again.windows is not None
    assert again.windows.tolist() == [3, 1]


@pytest.mark.parametrize("pooling", WINDOWS)
def test_the_loss_is_that_of_the_evaluation(pooling: WindowPooling) -> None:
    task = ClassifyLong(("no", "yes"), pooling=pooling)
    scores = torch.randn(6, 1, len(task.outputs), generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[0], [1], [3], [3], [1], [3]])
    ids = torch.ones(6, 4, dtype=torch.int64)
    loss = task.loss(scores, LabelledBatch(ids, ids, ids > 0, ids[:, :1] - 1, targets))
    figures = task.evaluate(scores.detach()[:, 0].numpy(), examples()).figures
    assert float(loss.total.detach()) == pytest.approx(figures["loss"], abs=1e-6)
    assert int(loss.parts["classify"].count) == 3
    (gradient,) = torch.autograd.grad(loss.total, scores)
    assert gradient.isfinite().all()
    assert (gradient[:, 0, :2] != 0).any(-1).sum() >= 3


def test_attention_is_a_head_over_the_weighted_mean_of_vectors() -> None:
    torch.manual_seed(1)
    vectors, head = torch.randn(6, 5), torch.nn.Linear(5, 3)
    text = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    found = pool_windows(head(vectors), text, "attention")
    for number in range(3):
        some = vectors[text == number]
        shares = (some @ head.weight[-1] + head.bias[-1]).softmax(0)
        torch.testing.assert_close(found[number], (shares @ some) @ head.weight[:-1].T + head.bias[:-1])


@pytest.mark.parametrize("pooling", WINDOWS)
def test_a_folder_knows_how_windows_were_pooled(pooling: WindowPooling, encoder: TextEncoder) -> None:
    task = ClassifyLong(("no", "yes"), pooling=pooling, overlap=2, pairs=False)
    again = task_of_head("row", "single_label_classification", task.outputs, config_to_keep(task))
    assert isinstance(again, ClassifyLong)
    assert (again.labels, again.pooling, again.overlap) == (task.labels, pooling, 2)
    logits = np.random.default_rng(3).normal(size=(6, len(task.outputs)))
    warm = replace(task, temperature=2.0)
    np.testing.assert_allclose(
        softmaxed(again.predictions(logits / warm.divisors, examples())),
        softmaxed(warm.predictions(logits, examples())),
    )
    encoded = again.encode(again.from_questions([("1 2",), (" ".join("3" * 20),)]), encoder)
    assert isinstance(encoded.examples, LongTexts)
    assert encoded.examples.windows is not None
    assert encoded.examples.windows.tolist() == [1, 3]
    assert task_named("classify", HeadConfig(windows=pooling)) is ClassifyLong
    assert task_named("classify", HeadConfig()) is Classify
    with pytest.raises(ModelError, match="windows"):
        ClassifyLong.from_labels(task.outputs, {"windows": "median"})


def softmaxed(predictions: list[dict[str, dict[str, float]]]) -> list[list[float]]:
    return [list(one["probabilities"].values()) for one in predictions]


def test_pairs_have_no_windows(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tlabel\n" + "".join(f"a {i}\tb\t{i % 2}\n" for i in range(9)))
    with pytest.raises(CorpusError, match="pairs"):
        ClassifyLong.from_train_file(TrainFile(tmp_path / "a.tsv", head=HeadConfig(windows="max")))
    texts = Texts(tmp_path, ["a"], None, np.zeros(1, dtype=np.int64))
    with pytest.raises(ConfigError, match="windows"):
        HeadConfig(windows="max").refuse("windows", task="regress")
    assert len(texts) == 1
