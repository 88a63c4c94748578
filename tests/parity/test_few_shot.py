"""A start from few examples: pairs have the loss of sentence-transformers, the head is a logistic regression."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from sklearn.linear_model import LogisticRegression

from bertwright.device import autocast
from bertwright.errors import ConfigError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.model.task_model import FineTuned
from bertwright.tasks.metrics import softmax
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.task_setup.few_shot import Features, fit_head, pair_loss, start_from_pairs, texts_of_step
from bertwright.verbs.finetune import finetune

WORDS = ["good", "fine", "bad", "poor", "new", "old", "film", "book", "song"]
CLASSES = (("good", "fine"), ("bad", "poor"), ("new", "old"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=16, heads=2, intermediate_size=32, max_positions=16)
    encoder = build_encoder(shape)
    with torch.no_grad():
        for parameter in encoder.parameters():  # so that texts have different vectors to begin with
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_model(encoder, folder / "tokenizer.json", folder / "model")
    return folder / "model"


def examples(classes: int) -> tuple[list[str], np.ndarray]:
    found = [(f"{word} {thing}", one) for one in range(classes) for word, thing in product(CLASSES[one], WORDS[6:])]
    return [text for text, _ in found], np.array([label for _, label in found])


def classifier(folder: Path, outputs: int) -> FineTuned:
    from bertwright.hub.encoder_folder import read_model

    torch.manual_seed(1)
    return FineTuned(read_model(folder)[0], head_type="row", outputs=outputs, dropout=0.1)


def test_the_loss_of_pairs_is_theirs() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    torch.manual_seed(0)
    vectors, labels = torch.randn(9, 5), torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    theirs = losses.CosineSimilarityLoss(torch.nn.Identity())
    kinds = []
    for alike in (True, False):
        pairs = [(i, j) for i, j in product(range(9), repeat=2) if i != j and bool(labels[i] == labels[j]) == alike]
        first, second = (vectors[list(side)] for side in zip(*pairs, strict=True))
        kinds.append(theirs.compute_loss_from_embeddings([first, second], torch.full((len(pairs),), float(alike))))
    torch.testing.assert_close(pair_loss(vectors, labels), torch.stack(kinds).mean())
    alone = pair_loss(vectors[[0, 4]], labels[[0, 4]])
    torch.testing.assert_close(alone, torch.cosine_similarity(vectors[0], vectors[4], dim=0).square())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_a_logistic_regression_of_vectors(folder: Path, classes: int) -> None:
    texts, labels = examples(classes)
    model = classifier(folder, classes)
    rows = TextEncoder(load_tokenizer(folder), max_length=16).rows(texts, None, labels)
    fit_head(model, Features(model), rows, device=CPU)
    model.eval()
    with torch.no_grad():
        batch = rows.batch(np.arange(len(rows)))
        vectors, logits = Features(model)(batch).double().numpy(), model(batch)[:, 0].numpy()
    theirs = LogisticRegression(C=1.0, max_iter=2000).fit(vectors, labels)
    np.testing.assert_allclose(softmax(logits), theirs.predict_proba(vectors), atol=1e-4)


def test_a_step_has_of_each_class_as_many() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 3])
    chosen = texts_of_step(labels, 12, random=np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() in ([5, 4, 3], [4, 5, 3])
    assert len(set(chosen.tolist())) == 12
    assert sorted(texts_of_step(labels, 99, random=np.random.default_rng(0)).tolist()) == list(range(63))


def test_classes_come_apart(folder: Path) -> None:
    texts, labels = examples(3)
    rows = TextEncoder(load_tokenizer(folder), max_length=16).rows(texts, None, labels)

    def started(seed: int) -> FineTuned:
        model = classifier(folder, 3)
        start_from_pairs(model, rows, rate=1e-2, tokens=512, seed=seed, device=CPU, cast=lambda: autocast("fp32", CPU))
        return model.eval()

    before, after, again = classifier(folder, 3).eval(), started(0), started(0)
    batch = rows.batch(np.arange(len(rows)))
    with torch.no_grad():
        losses = [float(pair_loss(Features(one)(batch), torch.from_numpy(labels))) for one in (before, after)]
        assert losses[1] < 0.7 * losses[0]
        assert (after(batch)[:, 0].argmax(-1).numpy() == labels).all()
        torch.testing.assert_close(again(batch), after(batch), rtol=0, atol=0)
    assert not torch.equal(started(1).classifier.weight, after.classifier.weight)


def test_a_run_starts_from_pairs(folder: Path, tmp_path: Path) -> None:
    texts, labels = examples(2)
    lines = [f"{text}\t{'ab'[label]}" for text, label in zip(texts, labels.tolist(), strict=True)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    call: dict[str, Any] = {"train": tmp_path / "train.tsv", "dev": tmp_path / "train.tsv", "few_shot": True}
    figures = finetune("classify", folder, **call, out=tmp_path / "run", learning_rate=3e-3, precision="fp32")
    assert figures["dev"]["accuracy"] == 1.0
    assert figures["strategies"] == {"few_shot": True}
    for task, settings in (("classify", {"head": {"multi_label": True}}), ("regress", {}), ("classify", FROZEN)):
        with pytest.raises(ConfigError, match=r"few.shot"):
            finetune(task, folder, **call, out=tmp_path / "no", settings=settings)


FROZEN: dict[str, Any] = {"transfer": {"freeze": "all"}}
