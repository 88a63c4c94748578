"""Short real runs that train sentence vectors: pairs, scores and texts are learned, and the folder is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from bertwright.cli.main import main
from bertwright.errors import ConfigError, CorpusError, ModelError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.verbs.embed import embed
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict

GERMAN = dict(
    zip(
        ["red", "green", "old", "young", "cat", "dog", "bird", "fish", "runs", "sleeps", "sings", "swims"],
        ["rot", "gruen", "alt", "jung", "katze", "hund", "vogel", "fisch", "rennt", "schlaeft", "singt", "schwimmt"],
        strict=True,
    )
)
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 6},
    "optimizer": {"learning_rate": 3e-3},
    "batches": {"rows": 32},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained("bert", tmp_path_factory)


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained("modern", tmp_path_factory)


def untrained(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of two blocks that knows nothing."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GERMAN, *GERMAN.values()]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size(
        "tiny", architecture=architecture, vocab_size=len(names), hidden_size=32, heads=2, max_positions=64
    )
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def sentences(count: int, seed: int) -> list[list[str]]:
    random, words = np.random.default_rng(seed), np.array(list(GERMAN))
    return [[str(word) for word in words[random.permutation(12)[: random.integers(3, 6)]]] for _ in range(count)]


def write(path: Path, header: str, rows: list[list[str]]) -> Path:
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    return path


def pairs(path: Path, count: int, seed: int) -> Path:
    rows = [[" ".join(one), " ".join(GERMAN[word] for word in one)] for one in sentences(count, seed)]
    return write(path, "anchor\tpositive", rows)


def scored(path: Path, count: int, seed: int) -> Path:
    """How alike two sentences are is how many words they share."""
    left, right = sentences(count, seed), sentences(count, seed + 100)
    return write(
        path,
        "sentence1\tsentence2\tscore",
        [[" ".join(a), " ".join(b), str(len(set(a) & set(b)))] for a, b in zip(left, right, strict=True)],
    )


@pytest.mark.parametrize("name", ["bert", "modern"])
def test_pairs_find_each_other_and_the_folder_is_whole(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(name)
    files = {
        split: pairs(tmp_path / f"{split}.tsv", n, i) for i, (split, n) in enumerate({"train": 400, "dev": 60}.items())
    }
    figures = finetune("embed", model, **files, out=tmp_path / "run", settings={**QUICK, "embed": {"symmetric": True}})
    assert figures["dev"]["mrr_at_10"] > 0.9
    assert figures["metric"] == "mrr_at_10"
    assert (figures["objective"], figures["pooling"], figures["normalize"]) == ("pairs", "mean", True)
    run = tmp_path / "run"
    for name in ("config.toml", "manifest.json", "result.json", "report.html", "model/README.md", "model/modules.json"):
        assert (run / name).is_file(), name
    assert "right text" in (run / "report.html").read_text(encoding="utf-8")
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert {"loss", "embed_loss", "embed_accuracy", "tokens_per_second", "mfu"} <= set(line)
    assert evaluate("embed", run / "model", files["dev"]) == figures["dev"]
    texts = ["red cat runs", "rot katze rennt", "jung fisch singt"]
    vectors = embed(run / "model", texts)
    theirs = transformers.AutoModel.from_pretrained(run / "model")
    with torch.inference_mode():
        states = theirs(**transformers.AutoTokenizer.from_pretrained(run / "model")(texts[0], return_tensors="pt"))
    mean = states.last_hidden_state[0].mean(0)
    np.testing.assert_allclose(vectors[0], (mean / mean.norm()).numpy(), atol=1e-5, rtol=0)
    (tmp_path / "asked.txt").write_text(f"{texts[0]}\t{texts[1]}\n{texts[0]}\t{texts[2]}\n")
    answers = predict(run / "model", input=tmp_path / "asked.txt", output=tmp_path / "answers.jsonl")
    assert [one["similarity"] for one in answers] == pytest.approx((vectors[:1] @ vectors[1:].T)[0].tolist(), abs=1e-5)
    assert answers[0]["similarity"] > answers[1]["similarity"]
    with pytest.raises(UsageError, match="give pairs"):
        predict(run / "model", ["red cat runs"])


def test_scores_are_learned_on_top_of_that_folder(bert: Path, tmp_path: Path) -> None:
    """Pooling and unit length of a sentence-transformers folder stay as they are."""
    files = {
        split: scored(tmp_path / f"{split}.tsv", n, i) for i, (split, n) in enumerate({"train": 400, "dev": 80}.items())
    }
    once = {**QUICK, "schedule": {"epochs": 1}, "embed": {"pooling": "max", "normalize": False}}
    finetune("embed", bert, **files, out=tmp_path / "one", settings=once)
    figures = finetune(
        "embed", tmp_path / "one" / "model", **files, test=files["dev"], out=tmp_path / "two", settings=QUICK
    )
    assert figures["dev"]["spearman"] > 0.8
    assert figures["test"] == figures["dev"]
    assert (figures["pooling"], figures["normalize"]) == ("max", False)
    assert not (tmp_path / "two" / "model" / "2_Normalize").exists()
    assert "cosine by score" in (tmp_path / "two" / "report.html").read_text(encoding="utf-8")


def test_texts_alone_find_themselves(modern: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder without dropout is given some; a frozen block stays as it is."""
    (tmp_path / "train.txt").write_text("\n".join(" ".join(one) for one in sentences(400, 0)) + "\n")
    dev = scored(tmp_path / "dev.tsv", 80, 1)
    settings = {**QUICK, "schedule": {"epochs": 3}, "watch": {"log_every": 1}}
    settings["transfer"] = {"freeze": 1, "layer_decay": 0.5}
    figures = finetune("embed", modern, tmp_path / "train.txt", dev, tmp_path / "run", settings=settings)
    assert figures["objective"] == "texts"
    assert figures["dev"]["spearman"] > 0.5
    assert "no dropout" in capsys.readouterr().err
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    texts = ["red cat", "old bird sings"]
    before, after = (embed(folder, texts, layer=1, normalize=False) for folder in (modern, tmp_path / "run" / "model"))
    np.testing.assert_array_equal(before, after)


def test_calls_that_do_not_fit(bert: Path, tmp_path: Path) -> None:
    train, scores = pairs(tmp_path / "train.tsv", 20, 0), scored(tmp_path / "scored.tsv", 20, 0)
    (tmp_path / "texts.txt").write_text("red cat\nold dog\n")
    out = tmp_path / "run"
    with pytest.raises(CorpusError, match="texts"):
        finetune("embed", bert, train, tmp_path / "texts.txt", out)
    with pytest.raises(CorpusError, match=r"scored\.tsv.*train\.tsv"):
        finetune("embed", bert, train, train, out, test=scores)
    with pytest.raises(ConfigError, match=r"'spearman'.*mrr_at_10"):
        finetune("embed", bert, train, train, out, settings={"watch": {"metric": "spearman"}})
    with pytest.raises(ConfigError, match=r"embed\.pooling"):
        finetune("embed", bert, train, train, out, settings={"embed": {"poolin": "cls"}})
    with pytest.raises(ConfigError, match="2 blocks"):
        finetune("embed", bert, train, train, out, settings={"transfer": {"freeze": 2}})
    with pytest.raises(ModelError, match="sentence vectors"):
        evaluate("embed", bert, train)
    assert not out.exists()


def test_at_the_terminal(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, dev = scored(tmp_path / "train.tsv", 40, 0), pairs(tmp_path / "dev.tsv", 20, 1)
    words = ["finetune", "embed", "--model", str(bert), "--train", str(train), "--dev", str(dev), "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run"), "--embed.objective", "pairs", "--embed.pooling", "cls"]) == 0
    output = capsys.readouterr()
    assert "mrr at 10" in output.out
    assert re.search("40 pairs.*sentence1.*sentence2", output.err)
    assert main(["predict", "--model", str(tmp_path / "run" / "model"), "red cat", "rot katze"]) == 0
    assert "cosine" in capsys.readouterr().out
    assert main(["evaluate", "embed", "--model", str(tmp_path / "run" / "model"), "--data", str(dev)]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_negatives_are_mined_and_first_units_trained(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, dev = pairs(tmp_path / "train.tsv", 60, 0), pairs(tmp_path / "dev.tsv", 20, 1)
    settings = {**QUICK, "schedule": {"epochs": 1}}
    call: dict[str, Any] = {"train": train, "dev": dev, "settings": settings}
    figures = finetune("embed", bert, **call, out=tmp_path / "run", hard_negatives=2, matryoshka="8,16")
    assert figures["dimensions"] == [16, 8]
    assert {"mrr_at_10", "mrr_at_10_16_units", "mrr_at_10_8_units"} <= set(figures["dev"])
    mined = re.search(r"(\d+) hard negatives mined for (\d+) pairs", capsys.readouterr().err)
    assert mined is not None
    assert int(mined[2]) <= 60 < int(mined[1]) <= 2 * int(mined[2])
    with pytest.raises(ConfigError, match="32 units"):
        finetune("embed", bert, **call, out=tmp_path / "no", matryoshka="32")
    with pytest.raises(CorpusError, match="scores"):
        finetune("embed", bert, scored(tmp_path / "s.tsv", 40, 0), dev, tmp_path / "no", hard_negatives=1)
    with pytest.raises(UsageError, match="matryoshka"):
        finetune("embed", bert, **call, out=tmp_path / "no", matryoshka="all")
    with pytest.raises(UsageError, match="hard-negatives"):
        finetune("classify", bert, **call, out=tmp_path / "no", hard_negatives=2)
