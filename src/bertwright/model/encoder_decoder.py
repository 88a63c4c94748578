"""Turns a text into another: a pre-trained encoder reads it, a decoder started from the same weights writes.

It is what Hugging Face calls EncoderDecoderModel, weight for weight (Rothe et al. 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertwright.errors import ModelError
from bertwright.model.bert import BertForPreTraining, Embeddings
from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.decoder import Decoder, EncoderStates
from bertwright.model.encoder import Encoder
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.types import PairBatch

MOST_POSITIONS = 512
"""Position embeddings of a decoder whose encoder has none: as BERT."""


class EncoderDecoder(nn.Module):
    """An encoder, which loses its heads, and a decoder of the same width.

    >>> # needs a model
    >>> model = EncoderDecoder(encoder, Decoder(decoder_config(encoder.config, layers=2)))  # doctest: +SKIP
    >>> logits = model(batch)  # [R, V] of the R real tokens of the targets  # doctest: +SKIP
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        encoder.drop_heads()
        self.encoder, self.decoder = encoder, decoder

    def read(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> EncoderStates:
        """Return what the decoder attends to of source texts, each [N, S]."""
        hidden = self.encoder.encode(input_ids, token_type_ids, attention_mask)
        return self.decoder.encoder_states(hidden, attention_mask)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return logits [R, V] of the R real tokens of the targets, row after row.

        The vocabulary, the largest product of a small model, is never multiplied with padding.
        """
        memory = self.read(batch.input_ids, batch.token_type_ids, batch.attention_mask)
        hidden = self.decoder(batch.decoder_ids, memory)
        return self.decoder.logits(hidden.flatten(0, 1)[batch.real.flat])


def decoder_config(encoder: ModelConfig, *, layers: int | None = None) -> BertConfig:
    """Return the shape of a decoder beside an encoder: as wide, and as deep where `layers` is not given.

    Beside a ModernBERT it has BERT's inner layer, four times as wide as the hidden states.
    """
    if type(encoder) is BertConfig:
        return encoder.model_copy(update={"layers": layers or encoder.layers, "tie_word_embeddings": True})
    of_bert = isinstance(encoder, BertConfig)
    return BertConfig(
        vocab_size=encoder.vocab_size,
        hidden_size=encoder.hidden_size,
        layers=layers or encoder.layers,
        heads=encoder.heads,
        intermediate_size=encoder.intermediate_size if of_bert else 4 * encoder.hidden_size,
        max_positions=min(encoder.max_positions, MOST_POSITIONS),
        pad_token_id=encoder.pad_token_id,
        layer_norm_eps=encoder.layer_norm_eps if of_bert else BertConfig.model_fields["layer_norm_eps"].default,
    )


@torch.no_grad()
def start_from(decoder: Decoder, model: Encoder) -> None:
    """Copy what a pre-trained model, its heads still on, has for a decoder; attention to the source stays as drawn.

    From a BERT or its kin: embeddings, masked-token head, and blocks, evenly spaced with the last among them where the
    decoder has fewer. From a ModernBERT: word embeddings and masked-token head alone, since its blocks are of another
    kind. Raises ModelError where embeddings are narrower than hidden states, which a decoder has no place for.
    """
    if isinstance(model, ModernForMaskedLM):
        decoder.embeddings.words.load_state_dict(model.embeddings.words.state_dict())
        decoder.mlm_head.load_state_dict(model.mlm_head.state_dict(), strict=False)
    elif isinstance(model, BertForPreTraining) and model.config.embedding_width == model.config.hidden_size:
        _start_embeddings(decoder.embeddings, model.embeddings)
        decoder.mlm_head.load_state_dict(model.mlm_head.state_dict())
        for block, source in zip(decoder.blocks, evenly_spaced(len(model.blocks), len(decoder.blocks)), strict=True):
            block.load_state_dict(model.blocks[source].state_dict(), strict=False)
    else:
        raise ModelError(
            f"a decoder cannot start from a {type(model).__name__} of this shape; give --start encoder, or neither"
        )


def _start_embeddings(decoder: Embeddings, encoder: Embeddings) -> None:
    """Copy words, positions from the first of a text on where there are any, and token types, or zeros for them."""
    decoder.words.load_state_dict(encoder.words.state_dict())
    decoder.norm.load_state_dict(encoder.norm.state_dict())
    if hasattr(encoder, "positions"):
        decoder.positions.weight.copy_(encoder.positions.weight[encoder.first :][: decoder.positions.num_embeddings])
    if not hasattr(encoder, "types"):
        decoder.types.weight.zero_()
    else:
        kinds = min(decoder.types.num_embeddings, encoder.types.num_embeddings)
        decoder.types.weight[:kinds] = encoder.types.weight[:kinds]


def freeze_encoder(model: EncoderDecoder, blocks: int) -> None:
    """Keep the embeddings and the first `blocks` blocks of the encoder as they are; 0 freezes nothing."""
    for name in ["embeddings", *(f"blocks.{index}" for index in range(blocks))] if blocks else []:
        model.encoder.get_submodule(name).requires_grad_(False)


def evenly_spaced(whole: int, chosen: int) -> list[int]:
    """Return `chosen` of `whole` blocks, evenly spaced, the last among them; more than there are begin again.

    >>> evenly_spaced(12, 3)
    [3, 7, 11]
    """
    if chosen > whole:
        return [block % whole for block in range(chosen)]
    return [(block + 1) * whole // chosen - 1 for block in range(chosen)]


def translation_flops(
    encoder: ModelConfig, decoder: BertConfig, *, rows: int, source: int, target: int, scored: int
) -> int:
    """Return the useful floating-point operations of one step, forward and backward, as `training_flops` counts them.

    Over `rows` pairs padded to `source` and `target` tokens, of which `scored` real ones are scored.
    """
    width, read, written = encoder.hidden_size, rows * source, rows * target
    reading = encoder.layers * (2 * read * encoder.block_weights + 4 * read * source * width)
    writing = decoder.layers * (
        2 * written * (decoder.block_weights + 2 * width**2)
        + 4 * read * width**2
        + 4 * written * (source + target) * width
    )
    return 3 * (reading + writing + 2 * scored * width * (width + decoder.vocab_size))
