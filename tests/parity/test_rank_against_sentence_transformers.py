"""A ranker is a stock cross-encoder: scores and order as sentence-transformers has them, figures as scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import tokenizers
import torch
import transformers

from bertwright.hub.task_folder import save_fine_tuned
from bertwright.model.build import build_encoder, named_size
from bertwright.model.task_model import FineTuned
from bertwright.tasks.by_name import config_to_keep
from bertwright.tasks.ranking.metrics import rank_passages
from bertwright.tasks.ranking.task import Rank
from bertwright.verbs.predict import predict

sentence_transformers = pytest.importorskip("sentence_transformers")

WORDS = ["where", "does", "anna", "bert", "live", "lives", "in", "rome", "oslo", "the", "cat", "sat", "."]
QUERY = "Where does Anna live?"
PASSAGES = ["Anna lives in Rome.", "The cat sat.", "Bert lives in Oslo.", "", "the cat sat " * 20]


def written(folder: Path, architecture: str) -> Path:
    """Write a ranker with random weights large enough to tell passages apart."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    size = {"vocab_size": len(names), "layers": 2, "hidden_size": 32, "heads": 2, "max_positions": 48}
    encoder = build_encoder(named_size("tiny", architecture=architecture, **size))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model = FineTuned(encoder, head_type="row", outputs=1, dropout=0.1).eval()
    with torch.no_grad():
        model.classifier.weight.normal_(std=0.5)
    task = Rank.from_labels(["rank"], {"top_grade": 3})
    out, kept = folder / "model", config_to_keep(task)
    save_fine_tuned(model, folder / "tokenizer.json", out, labels=task.labels, problem=task.problem, extra_config=kept)
    return out


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_scores_and_order_are_those_of_a_cross_encoder(tmp_path: Path, architecture: str) -> None:
    folder = written(tmp_path, architecture)
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    assert theirs.num_labels == 1
    wanted = theirs.rank(QUERY, PASSAGES)
    [found] = predict(folder, [QUERY, *PASSAGES], precision="fp32")
    assert [one["place"] for one in found["passages"]] == [one["corpus_id"] for one in wanted]
    scores = [one["score"] for one in found["passages"]]
    np.testing.assert_allclose(scores, [one["score"] for one in wanted], atol=1e-5)
    assert np.ptp(scores) > 0.05
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps({"query": QUERY, "passage": text}) + "\n" for text in PASSAGES[:3]))
    each = predict(folder, input=rows, precision="fp32")
    np.testing.assert_allclose(
        [one["passages"][0]["score"] for one in each],
        theirs.predict([(QUERY, text) for text in PASSAGES[:3]]),
        atol=1e-5,
    )


def test_stock_transformers_trains_it_further_on_the_same_loss(tmp_path: Path) -> None:
    folder = written(tmp_path, "bert")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert theirs.config.num_labels == 1
    ids = torch.randint(5, 18, (4, 7))
    grades = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    result = theirs(input_ids=ids, labels=grades)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(result.logits, grades)
    torch.testing.assert_close(result.loss, wanted)


@pytest.mark.parametrize("graded", [False, True])
def test_figures_are_those_of_scikit_learn(graded: bool) -> None:
    random = np.random.default_rng(graded)
    counts = random.integers(2, 30, size=50)
    queries = np.repeat(np.arange(50), counts)
    grades = random.integers(0, 4 if graded else 2, size=len(queries)).astype(np.float32)
    scores = random.integers(0, 12, size=len(queries)) / 4  # many are equal
    order = random.permutation(len(queries))
    ranks = rank_passages(scores[order], grades[order], queries[order])
    wanted = [
        sklearn.metrics.ndcg_score(grades[None, queries == q], scores[None, queries == q], k=10) for q in ranks.queries
    ]
    np.testing.assert_allclose(ranks.ndcg, wanted, atol=1e-12)
    distinct = scores + random.random(len(scores)) / 100
    ranks = rank_passages(distinct, grades, queries)
    for query, reciprocal in zip(ranks.queries.tolist(), ranks.reciprocal.tolist(), strict=True):
        here = queries == query
        relevant = grades[here][np.argsort(-distinct[here])] > 0
        place = int(relevant.argmax())
        assert reciprocal == (1 / (place + 1) if place < 10 else 0)
