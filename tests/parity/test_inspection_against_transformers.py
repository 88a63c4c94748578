"""Hidden states and attention weights that are shown are those of transformers, of every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertwright.hub.encoder_folder import load_model
from bertwright.inspection.forward import layer_logits, look
from bertwright.types import TokenRows

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {},
    "ModernBert": {"global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0, "cls_token_id": 2,
                   "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3, "classifier_pooling": "cls"},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
                  "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
                  "type_vocab_size": 0, "legacy": False},
    "Electra": {"embedding_size": 16},
}  # fmt: skip


def rows_of(length: int) -> TokenRows:
    """Return two rows, the second with padding."""
    ids = torch.randint(5, 97, (2, length), generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, length - 4 :] = False
    return TokenRows(ids.masked_fill(~mask, 0), torch.zeros_like(ids), mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_attention_and_the_words_of_the_last_layer_are_those_of_transformers(
    family: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**{**SHAPE, **FAMILIES[family]}, attn_implementation="eager")
    reference = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    for parameter in reference.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    reference.save_pretrained(tmp_path)
    model, rows = load_model(tmp_path), rows_of(19)
    found = look(model, rows)
    with torch.no_grad():
        theirs = reference(
            input_ids=rows.input_ids, attention_mask=rows.attention_mask.long(), output_attentions=True,
            output_hidden_states=True,
        )  # fmt: skip
    kept = rows.attention_mask
    assert len(found.hidden) == len(theirs.hidden_states) == 4
    for ours, other in zip(found.hidden, theirs.hidden_states, strict=True):
        torch.testing.assert_close(ours[kept], other[kept], atol=2e-5, rtol=1e-4)
    assert len(found.attention) == len(theirs.attentions) == 3
    for ours, other in zip(found.attention, theirs.attentions, strict=True):
        torch.testing.assert_close(ours.transpose(1, 2)[kept], other.transpose(1, 2)[kept], atol=1e-5, rtol=1e-4)
    at = torch.tensor([[2, 7], [1, 3]])
    logits = layer_logits(model, found, at)
    expected = theirs.logits.gather(1, at.unsqueeze(-1).expand(-1, -1, theirs.logits.shape[-1]))
    assert logits.shape == (4, 2, 2, 97)
    torch.testing.assert_close(logits[-1], expected, atol=5e-5, rtol=1e-4)
    assert not torch.allclose(logits[0], logits[-1], atol=1e-2)
    assert all(layer.observe is None for layer in model.modules() if hasattr(layer, "observe"))
