"""Exported graphs in onnxruntime give what torch gives: both architectures, every head, all batch sizes, padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError
from bertwright.hub.onnx import int8 as onnx_int8
from bertwright.hub.onnx.graphs import reference, write_model
from bertwright.hub.onnx.int8 import quantize_int8
from bertwright.hub.onnx.onnx_folder import OnnxFolder, open_session
from bertwright.model.bert_family import DistilBertConfig, ElectraConfig, RobertaConfig
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig
from bertwright.model.deberta import DebertaConfig
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import Pooling, SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.tasks.embedding.metrics import cosines

TOLERANCE = 1e-5
VOCAB = 97
SHAPE: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 48}
ARCHITECTURES: dict[str, ModelConfig] = {
    "bert": BertConfig(**SHAPE, max_positions=40),
    "bert of one token type": BertConfig(**SHAPE, max_positions=40, type_vocab_size=1),
    "bert, relu and untied": BertConfig(**SHAPE, max_positions=40, hidden_act="relu", tie_word_embeddings=False),
    "roberta": RobertaConfig(**SHAPE, max_positions=40, pad_token_id=1),
    "electra": ElectraConfig(**SHAPE, max_positions=40, embedding_size=16, hidden_act="gelu_new"),
    "distilbert": DistilBertConfig(**SHAPE, max_positions=40),
    "deberta": DebertaConfig(**SHAPE, max_positions=40, position_buckets=8),
    "modern": ModernConfig(**SHAPE, global_every=3, local_window=8, max_positions=40),
    "modern, last block global": ModernConfig(**SHAPE, global_every=2, local_window=6, max_positions=40),
    "modern, averaged": ModernConfig(**SHAPE, global_every=3, local_window=8, max_positions=40, pooling="mean"),
}
HEADS = ("row", "choice", "token", "span", None)


def random_model(name: str, part: Any) -> FineTuned | Encoder:
    torch.manual_seed(0)
    encoder = build_encoder(ARCHITECTURES[name]).eval()
    model = encoder if part is None else FineTuned(encoder, head_type=part, outputs=3, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_vectors(name: str, pooling: Pooling, *, normalize: bool) -> SentenceEncoder:
    encoder = random_model(name, None)
    assert isinstance(encoder, Encoder)
    return SentenceEncoder(encoder, pooling=pooling, normalize=normalize)


def some_rows(part: str | None, lengths: list[int]) -> LabelledRows:
    random = np.random.default_rng(0)
    at = [np.array([0]) if part == "row" else np.arange(1, length - 1, 2) for length in lengths]
    return LabelledRows(
        ids=random.integers(5, VOCAB, size=sum(lengths)).astype(np.uint32),
        lengths=np.array(lengths),
        first_lengths=np.array(lengths) // 2 + 1,
        positions=np.concatenate(at),
        num_targets=np.array([len(positions) for positions in at]),
        targets=np.zeros(sum(map(len, at)), dtype=np.int64),
        pad=0,
    )


def opened(model: FineTuned | SentenceEncoder | Encoder, part: str | None, file: Path) -> OnnxFolder:
    axes = write_model(model, file)
    onnx.checker.check_model(str(file), full_check=True)
    return OnnxFolder(file.parent, open_session(file), {"part": part, "problem": "", "labels": [], **axes})


@pytest.mark.parametrize("part", HEADS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_same_outputs(name: str, part: str | None, tmp_path: Path) -> None:
    model = random_model(name, part)
    exported = opened(model, part, tmp_path / "model.onnx")
    for lengths in ([3], [40], [17, 5, 11, 3, 40], [9] * 8):
        rows = some_rows("row" if part == "choice" else part, lengths)
        if part == "span":  # which is asked about every token
            rows = replace(
                rows, positions=None, num_targets=rows.lengths, targets=np.zeros((len(lengths), 2), np.int64)
            )
        arrays = rows.arrays(np.arange(len(lengths)))
        expected = reference(model, arrays)
        predicted = [exported.logits(arrays), *exported.run(arrays)[1:]]
        assert len(predicted) == len(expected)
        assert len(expected) == (2 if part is None and name.startswith("bert") else 1)
        for ours, theirs in zip(predicted, expected, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def test_padding_and_company_change_nothing(tmp_path: Path) -> None:
    exported = opened(random_model("modern", "token"), "token", tmp_path / "model.onnx")
    rows = some_rows("token", [17, 5, 33])
    together = exported.logits(rows.arrays(np.arange(3)))
    for place in range(3):
        alone = exported.logits(rows.arrays(np.array([place])))
        count = int(rows.num_targets[place])
        np.testing.assert_allclose(together[place, :count], alone[0, :count], atol=TOLERANCE)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("name", ["bert", "modern", "modern, last block global"])
def test_same_vectors(name: str, pooling: Pooling, normalize: bool, tmp_path: Path) -> None:
    model = random_vectors(name, pooling, normalize=normalize)
    exported = opened(model, "vector", tmp_path / "model.onnx")
    assert list(exported.about["outputs"].items()) == [("vectors", ("batch", SHAPE["hidden_size"]))]
    assert ("token_type_ids" in exported.about["inputs"]) == (name == "bert")
    for lengths in ([2], [40], [17, 5, 11, 2, 40], [9] * 8):
        rows = some_rows("row", lengths)
        vectors = exported.logits(rows.arrays(np.arange(len(rows))))
        [theirs] = reference(model, rows.arrays(np.arange(len(rows))))
        assert vectors.shape == (len(rows), 1, exported.width)
        np.testing.assert_allclose(vectors, theirs, atol=TOLERANCE, rtol=TOLERANCE)
        assert np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6) == normalize
        for place in range(len(rows)):  # padding counts in no pooling
            alone = exported.logits(rows.arrays(np.array([place])))
            np.testing.assert_allclose(vectors[place], alone[0], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("name", ["bert", "modern"])
def test_vectors_of_int8_are_near(name: str, pooling: Pooling, tmp_path: Path) -> None:
    exported = opened(random_vectors(name, pooling, normalize=True), "vector", tmp_path / "model.onnx")
    arrays = some_rows("row", [17, 5, 11, 3, 40]).arrays(np.arange(5))
    smaller = in_int8(exported, arrays, tmp_path)
    exact, near = exported.logits(arrays)[:, 0], smaller.logits(arrays)[:, 0]
    assert not np.array_equal(exact, near)
    assert cosines(exact, near).min() > 0.999


def test_pairs_may_be_left_out(tmp_path: Path) -> None:
    model = random_model("bert", None)
    assert list(write_model(model, tmp_path / "model.onnx", pairs=False)["outputs"]) == ["mlm_logits"]
    arrays = some_rows(None, [17, 5]).arrays(np.arange(2))
    names = ("input_ids", "token_type_ids", "attention_mask", "asked")
    feed = {name: arrays[name].astype(np.int64) for name in names}
    predicted = open_session(tmp_path / "model.onnx").run(None, feed)
    np.testing.assert_allclose(predicted[0], reference(model, arrays)[0], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_int8_is_near_and_products_are_of_integers(name: str, tmp_path: Path) -> None:
    exported = opened(random_model(name, "row"), "row", tmp_path / "model.onnx")
    arrays = some_rows("row", [17, 5, 11, 3, 40]).arrays(np.arange(5))
    smaller = in_int8(exported, arrays, tmp_path)
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    of_attention = 4 if name == "deberta" else 2  # whose two sides are both computed; distances are no weights
    of_head, query_apart = 2, "averaged" not in name  # where the last block is asked about the first token alone
    rounded = 4 * SHAPE["layers"] + query_apart + of_head + (name == "electra")
    assert kinds.count("MatMulInteger") == rounded
    assert kinds.count("MatMul") == of_attention * SHAPE["layers"] + rounded  # each has large units beside it
    exact, near = exported.logits(arrays), smaller.logits(arrays)
    assert not np.array_equal(exact, near)
    assert np.abs(exact - near).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_int8_products_are_the_same_on_a_cpu_without_vnni(name: str, tmp_path: Path) -> None:
    part = "token" if "averaged" in name else "row"
    exported = opened(random_model(name, part), part, tmp_path / "model.onnx")
    arrays = some_rows(part, [17, 5, 11, 3, 40]).arrays(np.arange(5))
    in_int8(exported, arrays, tmp_path)
    products = factors_of_products(tmp_path / "int8.onnx", exported.inputs(arrays))
    assert products
    for values, weights in products:
        assert weights.dtype == np.int8
        assert values.max() > 200  # as large as 8 bits allow
        worst = [np.where(weights.T * sign > 0, 255, 0) for sign in (1, -1)]  # the largest sums of each column
        for rows in (values, *worst):
            assert np.array_equal(saturating_product(rows, weights), rows.astype(np.int64) @ weights.astype(np.int64))


def test_rounding_each_weight_to_all_of_8_bits_would_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_int8, "rounded_columns", every_weight_in_8_bits)
    exported = opened(random_model("modern", "row"), "row", tmp_path / "model.onnx")
    arrays = some_rows("row", [17, 5, 11, 3, 40]).arrays(np.arange(5))
    in_int8(exported, arrays, tmp_path)
    products = factors_of_products(tmp_path / "int8.onnx", exported.inputs(arrays))
    assert not all(np.array_equal(saturating_product(*pair), pair[0].astype(int) @ pair[1]) for pair in products)


def every_weight_in_8_bits(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(weights).max(0) / 127).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def factors_of_products(file: Path, feed: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the values [rows, I] and weights [I, O] of every product of integers in a graph."""
    graph = onnx.load(str(file))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type == "MatMulInteger"]
    assert not any(stored[node.input[3]].any() for node in products)  # zero points of the weights
    names = sorted({node.input[0] for node in products})
    kind = onnx.TensorProto.UINT8
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in names)
    onnx.save(graph, str(file.with_name("probe.onnx")))
    values = dict(zip(names, open_session(file.with_name("probe.onnx")).run(names, feed), strict=True))
    return [(values[node.input[0]].reshape(-1, len(stored[node.input[1]])), stored[node.input[1]]) for node in products]


def saturating_product(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the product [rows, O] as CPUs without VNNI compute it: two neighbours are added in 16 bits, saturating."""
    odd = len(weights) % 2
    left = np.pad(values, ((0, 0), (0, odd))).astype(np.int64).reshape(len(values), -1, 2)
    right = np.pad(weights, ((0, odd), (0, 0))).astype(np.int64).reshape(-1, 2, weights.shape[1])
    sums = np.einsum("rpk,pko->rpo", left, right)
    return np.clip(sums, -(2**15), 2**15 - 1).sum(1)


@pytest.mark.parametrize("units", [1, 2, 7, 64])
def test_weights_are_rounded_to_the_nearest_step_of_their_column(units: int) -> None:
    weights = np.random.default_rng(0).normal(size=(units, 5)).astype(np.float32)
    weights[:, 3] = 0
    rounded, scale = onnx_int8.rounded_columns(weights)
    assert np.abs(rounded * scale - weights).max() <= 0.5001 * scale.max()
    assert np.isfinite(scale).all()
    assert not rounded[:, 3].any()
    pairs = np.pad(rounded.astype(int), ((0, units % 2), (0, 0))).reshape(-1, 2, 5)
    largest = np.maximum(np.maximum(pairs, 0).sum(1).max(0), np.maximum(-pairs, 0).sum(1).max(0))
    assert (largest <= 128).all()
    assert (largest[[0, 1, 2, 4]] >= 126).all()  # no bit is given away


def test_large_units_stay_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("bert", "token")
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.attention_norm.weight[3] = 40.0  # one unit in 32 is large, as in trained models
            block.inner.weight[:, 3] *= 0.02
    exported = opened(model, "token", tmp_path / "model.onnx")
    arrays = some_rows("token", [17, 5, 11, 3, 40]).arrays(np.arange(5))
    exact = exported.logits(arrays)
    apart = np.abs(in_int8(exported, arrays, tmp_path).logits(arrays) - exact).mean()
    monkeypatch.setattr(onnx_int8, "LARGE_UNITS", 0)
    together = np.abs(in_int8(exported, arrays, tmp_path).logits(arrays) - exact).mean()
    assert apart < 0.6 * together


def in_int8(exported: OnnxFolder, arrays: dict[str, np.ndarray], folder: Path) -> OnnxFolder:
    quantize_int8(folder / "model.onnx", folder / "int8.onnx", [exported.inputs(arrays)])
    return OnnxFolder(folder, open_session(folder / "int8.onnx"), exported.about)


def test_damaged_graphs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime"):
        open_session(tmp_path / "model.onnx")
