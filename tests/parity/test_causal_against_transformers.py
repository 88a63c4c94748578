"""Causal batches against transformers: BERT's scores are those of BertLMHeadModel, which attends to earlier tokens."""

from __future__ import annotations

import pytest
import torch
import transformers

from bertwright.hub.encoder_folder import hf_tensors
from bertwright.hub.mappings.bert_names import BERT
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig
from bertwright.objectives.causal import next_tokens
from bertwright.objectives.mlm import token_loss
from bertwright.types import Batch

SHAPE = BertConfig(vocab_size=97, hidden_size=32, layers=3, heads=4, intermediate_size=64, max_positions=40)


def test_scores_and_loss_are_those_of_a_decoder() -> None:
    torch.manual_seed(0)
    ours = BertForPreTraining(SHAPE).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = transformers.BertConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=40, is_decoder=True, attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.BertLMHeadModel(config).eval()
    lost = theirs.load_state_dict(hf_tensors(ours, BERT), strict=False).missing_keys
    assert all(name.startswith("cls.predictions.decoder") for name in lost), lost
    theirs.tie_weights()
    theirs.cls.predictions.decoder.bias = theirs.cls.predictions.bias
    here = torch.arange(23) < torch.tensor([23, 9, 17])[:, None]
    ids = torch.randint(3, 97, here.shape) * here
    text = here & (torch.arange(23) > 0)
    batch = Batch(ids, ids * 0, here, text, text)
    example = next_tokens(batch)
    with torch.inference_mode():
        expected = theirs(
            input_ids=ids, attention_mask=here.long(), labels=ids.masked_fill(~text, -100), use_cache=False
        )
        scores = ours(example)
    used = example.masked_weights > 0
    torch.testing.assert_close(scores.mlm[used], expected.logits[:, :-1][used], atol=1e-5, rtol=0)
    assert token_loss(scores.mlm, example, part="causal").total.item() == pytest.approx(expected.loss.item(), abs=1e-5)
