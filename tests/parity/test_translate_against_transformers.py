"""Our encoder-decoder folders in stock transformers, and theirs in ours: the same logits and the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from sacrebleu import corpus_bleu, corpus_chrf
from torch import Tensor

from bertwright.data.labelled.paired import PairedRows
from bertwright.hub.encoder_decoder_folder import read_encoder_decoder, save_encoder_decoder
from bertwright.inference.translation import translate_rows, translation_loss
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig
from bertwright.model.decoder import Decoder
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_decoder import EncoderDecoder, decoder_config
from bertwright.model.generate import SearchRules
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.tasks.translation.metrics import score_texts

TOLERANCE = 1e-5
VOCAB = 61
SHAPE: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 48}
ARCHITECTURES: dict[str, ModelConfig] = {
    "bert": BertConfig(**SHAPE, max_positions=64),
    "modern": ModernConfig(**SHAPE, global_every=2, local_window=8),
}
RULES = SearchRules(begin=2, end=3, max_length=14)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(VOCAB - 5))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return file


def random_model(name: str, seed: int = 0, *, lively: bool = False) -> EncoderDecoder:
    """An encoder-decoder of random weights; what a lively one writes depends on what it reads, and ends by itself."""
    torch.manual_seed(seed)
    config = ARCHITECTURES[name]
    encoder: Encoder = BertForPreTraining(config) if isinstance(config, BertConfig) else ModernForMaskedLM(config)
    model = EncoderDecoder(encoder, Decoder(decoder_config(config, layers=2))).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
            if lively and (".cross." in parameter_name or "attention.query" in parameter_name):
                parameter.mul_(4)
        model.decoder.mlm_head.bias[3] += 2.0
    return model


def some_rows(count: int = 24, seed: int = 0) -> PairedRows:
    random = np.random.default_rng(seed)
    source, target = random.integers(3, 20, size=count), random.integers(3, 12, size=count)
    return PairedRows(
        source_ids=random.integers(5, VOCAB, size=int(source.sum())).astype(np.uint32),
        source_lengths=source,
        target_ids=random.integers(5, VOCAB, size=int(target.sum())).astype(np.uint32),
        target_lengths=target,
        pad=0,
    )


def theirs_of(folder: Path) -> Any:
    model, info = transformers.EncoderDecoderModel.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval()


def their_texts(model: Any, rows: PairedRows, **more: Any) -> list[list[int]]:
    batch = rows.batch(np.arange(len(rows)))
    written: Tensor = model.generate(batch.input_ids, attention_mask=batch.attention_mask.long(), **more)
    texts = []
    for ids in written[:, 1:].tolist():
        texts.append(ids[: ids.index(3)] if 3 in ids else ids)
    return texts


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_folder_in_transformers(name: str, tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(name)
    save_encoder_decoder(ours, tokenizer, tmp_path / "model", rules=RULES)
    theirs = theirs_of(tmp_path / "model")
    batch = some_rows().batch(np.arange(24))
    with torch.inference_mode():
        expected = theirs(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), decoder_input_ids=batch.decoder_ids
        ).logits[batch.labels >= 0]
        logits = ours(batch)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)
    assert float(logits.std()) > 0.1
    nats = torch.nn.functional.cross_entropy(expected, batch.labels[batch.labels >= 0])
    assert translation_loss(ours, some_rows(), device=CPU) == pytest.approx(float(nats), abs=1e-5)
    back = read_encoder_decoder(tmp_path / "model")
    assert back.rules == RULES
    with torch.inference_mode():
        torch.testing.assert_close(back.model(batch), logits, atol=0, rtol=0)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_the_same_texts_as_generate(beams: int, penalty: float, tokenizer: Path, tmp_path: Path) -> None:
    rules = SearchRules(begin=2, end=3, max_length=14, beams=beams, length_penalty=penalty)
    lengths = set()
    for seed in range(3):
        ours, rows = random_model("bert", seed, lively=True), some_rows(seed=seed)
        save_encoder_decoder(ours, tokenizer, tmp_path / f"model{seed}", rules=rules)
        written = translate_rows(ours, rows, rules, device=CPU)
        assert written == their_texts(theirs_of(tmp_path / f"model{seed}"), rows)
        lengths |= {len(text) for text in written}
    assert len(lengths) > 2, "texts of one length would show nothing about when to stop"


def test_a_modern_encoder_writes_the_same_texts(tokenizer: Path, tmp_path: Path) -> None:
    rules = SearchRules(begin=2, end=3, max_length=14, beams=4)
    ours, rows = random_model("modern", lively=True), some_rows()
    save_encoder_decoder(ours, tokenizer, tmp_path / "model", rules=rules)
    written = translate_rows(ours, rows, rules, device=CPU)
    assert written == their_texts(theirs_of(tmp_path / "model"), rows)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_their_folder_in_ours(name: str, tokenizer: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "pad_token_id": 0,
    }
    special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    encoder = transformers.BertConfig(**shape) if name == "bert" else transformers.ModernBertConfig(**shape, **special)
    decoder = transformers.BertConfig(**shape, is_decoder=True, add_cross_attention=True)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    theirs = transformers.EncoderDecoderModel(config).eval()
    theirs.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        bos_token_id=2,
        max_length=9,
        num_beams=3,
        length_penalty=0.0,
    )
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    opened, rows = read_encoder_decoder(tmp_path / "theirs"), some_rows()
    assert opened.rules == SearchRules(begin=2, end=3, max_length=9, beams=3, length_penalty=0.0)
    batch = rows.batch(np.arange(24))
    with torch.inference_mode():
        expected = theirs(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), decoder_input_ids=batch.decoder_ids
        ).logits[batch.labels >= 0]
        torch.testing.assert_close(opened.model(batch), expected, atol=TOLERANCE, rtol=0)


def test_the_same_scores_as_sacrebleu() -> None:
    predicted = ["Ein Hund läuft über das Gras.", "zwei Männer sitzen", "Eine Frau liest ein Buch im Park ."]
    labels = ["Ein Hund rennt über das Gras.", "Zwei Männer sitzen da.", "Eine Frau liest im Park ein Buch."]
    for lowercase, case in ((False, "case:mixed"), (True, "case:lc")):
        scores = score_texts(predicted, labels, lowercase=lowercase)
        assert scores.bleu == pytest.approx(corpus_bleu(predicted, [labels], lowercase=lowercase).score, abs=1e-4)
        lower = ([text.lower() for text in texts] if lowercase else texts for texts in (predicted, labels))
        hypotheses, references = lower
        assert scores.chrf == pytest.approx(corpus_chrf(hypotheses, [references]).score, abs=1e-4)
        assert case in scores.signatures["bleu"]
