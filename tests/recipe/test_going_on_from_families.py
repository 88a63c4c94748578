"""Every architecture that is read can be gone on from: the run begins with its logits, and ends in its stock class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.model.build import ARCHITECTURES, build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.pretrain import pretrain

SETTINGS: dict[str, Any] = {
    "schedule": {"steps": 2, "phases": [{"length": 16, "rows": 4, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "evaluation_rows": 32},
}
OVER: dict[str, dict[str, Any]] = {"electra": {"embedding_size": 64, "discriminator": True}}
"""An ELECTRA discriminator has no masked-token head, so that it gets one."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_going_on(name: str, data: Path, tmp_path: Path) -> None:
    tokens = load_tokenizer(data)
    over = {"max_positions": 64, "pad_token_id": tokens.special.pad, **OVER.get(name, {})}
    torch.manual_seed(1)
    shape = named_size("tiny", vocab_size=tokens.vocab_size, architecture=name, **over)
    save_model(build_encoder(shape), data / "tokenizer", tmp_path / "start")
    figures = pretrain(data, tmp_path / "run", init_from=tmp_path / "start", learning_rate=1e-30, settings=SETTINGS)
    before, after = load_model(tmp_path / "start"), load_model(tmp_path / "run" / "model")
    ids = torch.randint(5, tokens.vocab_size, (3, 16), generator=torch.Generator().manual_seed(0))
    types, mask = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
    mask[1, 9:] = False
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model").eval()
    with torch.inference_mode():
        assert torch.allclose(before.encode(ids, types, mask)[mask], after.encode(ids, types, mask)[mask], atol=1e-5)
        ours = after.mlm_logits(after.encode(ids, types, mask))
        reference = theirs(input_ids=ids.where(mask, tokens.special.pad), attention_mask=mask.long()).logits
    assert torch.allclose(ours[mask], reference[mask], atol=1e-4)
    (text,) = figures["before_after"]["texts"].values()
    assert text["before"]["nats_per_token"] == pytest.approx(text["after"]["nats_per_token"], abs=1e-4)
    assert figures["start"]["model_type"] == theirs.config.model_type
