"""Says how large a model is: the settings of both architectures, the named sizes, and what a step of one costs.

BERT's sizes are those of Devlin et al. (2018) and Turc et al. (2019): heads of 64 units, an inner layer four times as
wide. The large sizes of `modern` are those of ModernBERT (Warner et al., 2024); its small ones have BERT's depth and a
gated inner layer twice as wide, which makes a block a sixth cheaper than BERT's.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from bertwright.config import Section

Size = tuple[int, int, int, int]
"""(layers, hidden_size, heads, intermediate_size)."""
Activation = Literal["gelu", "gelu_new", "relu", "tanh"]
"""Names of the functions in model/layers/activations.py."""


class ModelConfig(Section):
    """The shape of an encoder: what both architectures have."""

    sizes: ClassVar[dict[str, Size]]
    """The named sizes of the architecture."""

    vocab_size: int = Field(ge=1)
    """Words of the vocabulary, unused ones included."""
    hidden_size: int = Field(ge=1)
    """Width of the hidden states."""
    layers: int = Field(ge=1)
    """Transformer blocks."""
    heads: int = Field(ge=1)
    """Attention heads of a block; must divide hidden_size."""
    intermediate_size: int = Field(ge=1)
    """Width of the inner layer of a block."""
    max_positions: int = Field(default=512, ge=1, le=1 << 20)
    """Longest row of tokens the model can read."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden units dropped while training."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of attention probabilities dropped while training."""
    layer_norm_eps: float = Field(default=1e-5, gt=0, le=1)
    """What keeps a LayerNorm from dividing by zero."""
    initializer_range: float = Field(default=0.02, gt=0, le=100)
    """Standard deviation of the truncated normal that matrices and embeddings are drawn from."""
    pad_token_id: int = Field(default=0, ge=0)
    """Id of the padding token."""
    tie_word_embeddings: bool = True
    """Whether the MLM head scores words with their embeddings, not with a matrix of its own."""

    reads_token_types: ClassVar[bool] = False
    """Whether the second segment of a row has an embedding of its own."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        return self

    @property
    def block_weights(self) -> int:
        """Weights of a block that every token is multiplied by."""
        raise NotImplementedError

    @property
    def embedding_width(self) -> int:
        """Width of the word embeddings, and of what the MLM head compares with them."""
        return self.hidden_size

    @property
    def head_act(self) -> Activation:
        """Activation of the MLM head."""
        return "gelu"

    @property
    def embedding_rows(self) -> int:
        """Rows of all embedding matrices together."""
        return self.vocab_size

    @property
    def averages_rows(self) -> bool:
        """Whether the head of a task about rows reads the mean of their tokens, instead of [CLS]."""
        return False

    @property
    def distance_vectors(self) -> int:
        """Vectors of distances that the attention of each block compares with queries and keys."""
        return 0

    @property
    def row_weights(self) -> int:
        """Weights outside the blocks that one token a row is multiplied by."""
        return 0

    @property
    def widest_product(self) -> int:
        """Columns of the widest product of a block with the hidden states: query, key and value, or the inner layer."""
        raise NotImplementedError


class BertConfig(ModelConfig):
    """The shape of a BERT model; the defaults are those published in 2018."""

    sizes: ClassVar[dict[str, Size]] = {
        "tiny": (2, 128, 2, 512),
        "mini": (4, 256, 4, 1024),
        "small": (4, 512, 8, 2048),
        "medium": (8, 512, 8, 2048),
        "base": (12, 768, 12, 3072),
        "large": (24, 1024, 16, 4096),
    }

    reads_token_types: ClassVar[bool] = True
    pooler_act: ClassVar[Activation] = "tanh"
    """Activation of the dense layer between [CLS] and the head of a task about rows."""

    type_vocab_size: int = Field(default=2, ge=1)
    """Kinds of segments (A and B)."""
    hidden_act: Literal["gelu", "gelu_new", "relu"] = "gelu"
    """Activation of the inner layer: gelu_new is GELU by tanh."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of hidden units dropped after the embeddings and at the end of both halves of a block."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of attention probabilities dropped."""
    layer_norm_eps: float = Field(default=1e-12, gt=0, le=1)
    """What keeps a LayerNorm from dividing by zero."""

    @property
    def block_weights(self) -> int:
        """q, k, v, out; into the inner layer and out of it."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size

    @property
    def head_act(self) -> Activation:
        """That of the inner layer."""
        return self.hidden_act

    @property
    def first_position(self) -> int:
        """Row of the position embeddings that the first token of a text has."""
        return 0

    @property
    def position_rows(self) -> int:
        """Rows of the position embeddings."""
        return self.first_position + self.max_positions

    @property
    def embedding_rows(self) -> int:
        """Words, positions and kinds of segments."""
        return self.vocab_size + self.position_rows + self.type_vocab_size

    @property
    def row_weights(self) -> int:
        """Pooler and next-sentence head."""
        return self.hidden_size**2 + 2 * self.hidden_size

    @property
    def widest_product(self) -> int:
        """Query, key and value together, or the inner layer."""
        return max(3 * self.hidden_size, self.intermediate_size)


class ModernConfig(ModelConfig):
    """The shape of a ModernBERT model: rotary positions, gated inner layer, no biases."""

    sizes: ClassVar[dict[str, Size]] = {
        "tiny": (2, 128, 2, 256),
        "mini": (4, 256, 4, 512),
        "small": (4, 512, 8, 1024),
        "medium": (8, 512, 8, 1024),
        "base": (22, 768, 12, 1152),
        "large": (28, 1024, 16, 2624),
    }

    global_every: int = Field(default=1, ge=1)
    """Every which block attends to the whole row, counted from the first; the others attend to tokens around."""
    local_window: int = Field(default=128, ge=2)
    """Tokens a local block sees, half of them on either side."""
    global_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary frequencies of global blocks."""
    local_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary frequencies of local blocks."""
    pooling: Literal["cls", "mean"] = "cls"
    """What the head of a task about rows reads: [CLS], or the mean of all tokens but padding."""
    next_sentence: bool = False
    """Whether a next-sentence head, which reads [CLS], stands beside the masked-token head."""

    @model_validator(mode="after")
    def _next_sentence_reads_cls(self) -> Self:
        if self.next_sentence and self.pooling != "cls":
            raise ValueError(
                f"the next-sentence head reads [CLS], so pooling cannot be {self.pooling!r}; make it 'cls'"
            )
        return self

    @model_validator(mode="after")
    def _heads_are_even(self) -> Self:
        if self.hidden_size // self.heads % 2:
            raise ValueError(
                f"heads of {self.hidden_size // self.heads} units cannot be rotated in pairs; make it even"
            )
        return self

    def is_global(self, block: int) -> bool:
        """Say whether `block` (from 0) attends to the whole row."""
        return block % self.global_every == 0

    @property
    def averages_rows(self) -> bool:
        """Whether `pooling` is the mean."""
        return self.pooling == "mean"

    @property
    def row_weights(self) -> int:
        """The next-sentence head, where there is one."""
        return self.next_sentence * (self.hidden_size**2 + 2 * self.hidden_size)

    @property
    def block_weights(self) -> int:
        """q, k, v, out; into the inner layer and its gate, and out of it."""
        return 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size

    @property
    def widest_product(self) -> int:
        """Query, key and value together, or the inner layer and its gate."""
        return max(3 * self.hidden_size, 2 * self.intermediate_size)


def training_flops(
    config: ModelConfig, *, rows: int, length: int, masked: int, outputs: int | None = None, averaged: bool = False
) -> int:
    """Return the useful floating-point operations of one step (forward and backward) over a batch.

    With T = rows x length tokens, width H, vocabulary V and `masked` slots a row, of which A = rows x masked tokens
    (and [CLS] where there is a next-sentence head) are scored, the forward pass is

        (layers - 1) x (2 T block_weights  +  4 T length H)  the matrices of a block; scores and values
        + 4 T H^2                                            keys and values of the last block
        + 2 A (block_weights - 2 H^2)  +  4 A length H       the rest of it, at the scored positions alone
        + 2 rows row_weights                                 pooler and next-sentence head, if any
        + 2 rows masked E (H + V)                            MLM transform and vocabulary, at masked positions alone
        + 2 T E H                                            embeddings of another width, E, made as wide as H
        + ((2 layers - 1) T + A) 2 D H                       queries and keys with D vectors of distances, if any

    counting two operations for a multiply and add, matrix products only; the backward pass costs twice that. Padding
    counts as computed, since it is; recomputation would not count, since it is no use to anyone. Local attention, and
    that within the documents of a packed row, count over the whole row. A fine-tuned model scores `outputs` classes
    instead of the vocabulary, and has A = T where tokens are `averaged`; what its heads do otherwise than this is under
    a thousandth.
    """
    width, tokens = config.hidden_size, rows * length
    scored = tokens if averaged else rows * (masked + (config.row_weights > 0))
    block = 2 * tokens * config.block_weights + 4 * tokens * length * width
    last = 4 * tokens * width**2 + 2 * scored * (config.block_weights - 2 * width**2) + 4 * scored * length * width
    narrow = width if outputs is not None else config.embedding_width
    vocabulary = 2 * rows * masked * narrow * (width + (config.vocab_size if outputs is None else outputs))
    others = 0 if config.embedding_width == width else 2 * tokens * config.embedding_width * width
    others += ((2 * config.layers - 1) * tokens + scored) * 2 * config.distance_vectors * width
    return 3 * ((config.layers - 1) * block + last + 2 * rows * config.row_weights + vocabulary + others)
