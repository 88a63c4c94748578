"""Several labels a text, class weights and R-Drop against scikit-learn, torch's own losses and stock transformers."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import sklearn.utils.class_weight
import torch
import transformers
from torch.nn import functional

from bertwright.errors import ConfigError
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.head import class_weights
from bertwright.tasks.metrics import figures_by_label, multi_label_figures
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.task import Tag
from bertwright.train.task_setup.r_drop import RDrop
from bertwright.types import UNASKED, LabelledBatch


def batch(targets: torch.Tensor) -> LabelledBatch:
    ids = torch.ones(len(targets), 4, dtype=torch.int64)
    return LabelledBatch(ids, ids * 0, ids > 0, torch.zeros(len(targets), 1, dtype=torch.int64), targets)


@pytest.mark.parametrize("labels", [2, 5])
def test_figures_of_several_labels(labels: int) -> None:
    random = np.random.default_rng(labels)
    references, logits = random.random((300, labels)) < 0.3, random.normal(size=(300, labels))
    predicted = logits > 0
    figures = multi_label_figures(references, predicted, logits)
    assert figures["f1_micro"] == sklearn.metrics.f1_score(references, predicted, average="micro")
    assert figures["f1_macro"] == sklearn.metrics.f1_score(references, predicted, average="macro")
    assert figures["subset_accuracy"] == float((references == predicted).all(-1).mean())
    shares = 1 / (1 + np.exp(-logits))
    nats = np.mean([sklearn.metrics.log_loss(references[:, k], shares[:, k]) for k in range(labels)])
    assert figures["loss"] == pytest.approx(nats, rel=1e-12)
    report = sklearn.metrics.classification_report(references, predicted, output_dict=True, zero_division=0)
    for place, one in enumerate(figures_by_label(references, predicted)):
        theirs = report[str(place)]
        assert (one["precision"], one["recall"], one["f1"]) == (
            theirs["precision"],
            theirs["recall"],
            theirs["f1-score"],
        )
        assert (one["labels"], one["predictions"]) == (references[:, place].sum(), predicted[:, place].sum())


def test_the_loss_of_several_labels_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=9, num_labels=3, problem_type="multi_label_classification", **shape)
    theirs = transformers.BertForSequenceClassification(config).eval()
    targets = (torch.rand(5, 3) < 0.5).float()
    predicted = theirs(input_ids=torch.randint(9, (5, 4)), labels=targets)
    ours = MultiLabel.from_labels(["a", "b", "c"]).loss(predicted.logits[:, None], batch(targets[:, None]))
    torch.testing.assert_close(ours.total, predicted.loss)


def test_balanced_weights_are_those_of_scikit_learn_and_weigh_as_torch_weighs() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(4, p=[0.6, 0.25, 0.1, 0.05], size=500)
    theirs = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    weights = class_weights("balanced", labels, ["a", "b", "c", "d"])
    np.testing.assert_allclose(weights, theirs, rtol=1e-6)
    logits, targets = torch.randn(40, 1, 4), torch.from_numpy(labels[:40])[:, None]
    expected = functional.cross_entropy(logits[:, 0], targets[:, 0], weight=torch.from_numpy(weights))
    task = Classify(("a", "b", "c", "d"), weights=weights)
    ours = task.loss(logits, batch(targets)).total
    torch.testing.assert_close(ours, expected)
    words = targets.reshape(10, 4).clone()
    words[:, 3] = UNASKED
    positions = words != UNASKED
    expected = functional.cross_entropy(
        logits.reshape(10, 4, 4)[positions], words[positions], weight=torch.from_numpy(weights)
    )
    tagger = Tag(("O", "B-X", "I-X", "B-Y"), weights=weights)
    torch.testing.assert_close(tagger.loss(logits.reshape(10, 4, 4), batch(words)).total, expected)


def test_a_batch_of_classes_that_weigh_nothing_teaches_nothing() -> None:
    task = Classify(("a", "b"), weights=np.array([0.0, 1.0], dtype=np.float32))
    logits = torch.randn(3, 1, 2, requires_grad=True)
    task.loss(logits, batch(torch.zeros(3, 1, dtype=torch.int64))).total.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_weights_by_name() -> None:
    labels = np.array([0, 1, 1])
    assert class_weights({"yes": 2.5}, labels, ["no", "yes"]).tolist() == [1.0, 2.5]
    assert class_weights("balanced", labels, ["no", "yes", "never"]).tolist() == [1.5, 0.75, 1.0]
    for weights, message in (
        ({"maybe": 1.0}, "there is no class 'maybe'; known: no, yes"),
        ({"yes": -1.0}, "'yes' weighs -1; give 0 or more"),
        ({"no": 0.0, "yes": 0.0}, "every class weighs 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            class_weights(weights, labels, ["no", "yes"])


def test_r_drop_adds_the_divergence_torch_computes() -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 3, 4)
    targets = torch.randint(4, (4, 3))
    targets[0, 2] = UNASKED
    twice = RDrop(Tag(["O", "B-X", "I-X", "B-Y"]), alpha=0.7)
    example = twice.corrupt(batch(targets), torch.Generator())
    assert torch.equal(example.targets, torch.cat([targets, targets]))
    positions = targets != UNASKED
    p, q = (part[positions].log_softmax(-1) for part in logits.chunk(2))
    both = functional.kl_div(p, q, log_target=True, reduction="batchmean")
    both = both + functional.kl_div(q, p, log_target=True, reduction="batchmean")
    plain = functional.cross_entropy(logits.flatten(0, 1), example.targets.flatten(), ignore_index=UNASKED)
    torch.testing.assert_close(twice.loss(logits, example).total, plain + 0.7 * both / 2)


def test_r_drop_of_labels_and_of_scores() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 1, 2), (torch.rand(3, 1, 2) < 0.5).float()
    several = RDrop(MultiLabel.from_labels(["a", "b"]), alpha=1.0)
    p, q = (torch.distributions.Bernoulli(logits=part) for part in logits.chunk(2))
    both = torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)
    plain = functional.binary_cross_entropy_with_logits(logits, torch.cat([targets, targets]))
    example = several.corrupt(batch(targets), torch.Generator())
    torch.testing.assert_close(several.loss(logits, example).total, plain + both.mean() / 2)
    scores, labels = logits[:, :, :1], torch.tensor([[0.5], [float(UNASKED)], [0.2]])
    one = RDrop(Regress.from_labels(["score"]), alpha=2.0)
    example = one.corrupt(batch(labels), torch.Generator())
    expected = (scores[:, :, 0] - torch.cat([labels, labels])).square().mean()
    expected = expected + 2 * (scores[:3] - scores[3:]).square().mean()
    torch.testing.assert_close(one.loss(scores, example).total, expected)
