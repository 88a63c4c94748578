"""Says how Hugging Face writes down an architecture: one table of names for its weights, one for its settings.

Both tables are read in both directions: from a folder to our model, and from our model to a folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from bertwright.model.config import ModelConfig
from bertwright.model.encoder import HeadType
from bertwright.tokenizer.load import SpecialIds

POOLER = "pooler.dense"
"""Our name of the dense layer between [CLS] and the head of a task about rows."""
OUTPUT_WORDS = "output_words.weight"
"""Our name of the output matrix, where it is not the word embeddings."""
OLD_LEAVES = {"gamma": "weight", "beta": "bias"}
"""What LayerNorms called their weights before 2019."""


@dataclass(frozen=True)
class HFMapping:
    """Everything `encoder_folder.py` must know of one model_type of Hugging Face.

    what          the architecture as a model card calls it, with its source
    model_type    as in config.json
    written_as    the transformers class our pre-trained folders name
    bare          the transformers class without any head
    fine_tuned_as the transformers class of a model with a head, by its type
    head_called   Hugging Face's name of that head
    pooled_as     Hugging Face's name of the dense layer before that head, our pooler, by its type, where the class has
                  another for it than the class without a head
    head_dropout  the setting of the dropout before that head
    config        our settings of the architecture
    fields        Hugging Face's name of each setting, and ours
    absent        what settings of `fields` mean where config.json does not name them, where our default differs
    must_be       settings with one supported value, which is also what their absence means
    heads         beginnings of our names of weights that a folder may lack: an encoder saved alone has no heads
    left_out      beginnings of our names of weights that the class has no place for: they are kept in another folder
    prefix        what the names of the encoder's weights begin with, but not in a model that is the encoder alone
    backbone      the beginnings of those names without it
    modules       Hugging Face's name of each module outside the blocks, and ours; several of ours are stacked in one
    blocks        Hugging Face's name of the blocks, which a number follows
    in_block      the modules of a block: as `modules`
    decoder       Hugging Face's name of the output matrix, which is not written where it is the word embeddings
    inputs        what the model reads of a tokenizer
    read_extra    config.json -> settings of ours that `fields` cannot say; raises ModelError
    write_extra   our settings and special tokens -> config.json entries that `fields` cannot say
    """

    what: str
    model_type: str
    written_as: str
    bare: str
    fine_tuned_as: Mapping[HeadType, str]
    head_called: Mapping[HeadType, str]
    pooled_as: Mapping[HeadType, str]
    head_dropout: Mapping[HeadType, str]
    config: type[ModelConfig]
    fields: Mapping[str, str]
    absent: Mapping[str, Any]
    must_be: Mapping[str, Any]
    heads: tuple[str, ...]
    left_out: tuple[str, ...]
    prefix: str
    backbone: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]]
    blocks: str
    in_block: Mapping[str, tuple[str, ...]]
    decoder: str
    inputs: tuple[str, ...]
    read_extra: Callable[[Mapping[str, Any]], dict[str, Any]]
    write_extra: Callable[[ModelConfig, SpecialIds], dict[str, Any]]

    def to_local(self, name: str) -> tuple[str, ...]:
        """Return our names of a Hugging Face weight, in the order they are stacked in it; none where it has no place.

        >>> from bertwright.hub.mappings.modernbert_names import MODERN
        >>> MODERN.to_local("model.layers.3.mlp.Wi.weight")
        ('blocks.3.mlp.inner.weight', 'blocks.3.mlp.gate.weight')
        """
        if name == self.decoder:
            return (OUTPUT_WORDS,)
        if name.startswith(self.backbone):
            name = f"{self.prefix}{name}"
        module, _, leaf = name.rpartition(".")
        leaf = OLD_LEAVES.get(leaf, leaf)
        if block := re.fullmatch(rf"{re.escape(self.blocks)}\.(\d+)\.(.+)", module):
            return tuple(f"blocks.{block[1]}.{local}.{leaf}" for local in self.in_block.get(block[2], ()))
        return tuple(f"{local}.{leaf}" for local in self.modules.get(module, ()))

    def to_hf(self, name: str) -> str:
        """Return the Hugging Face name of the weight that one of ours is in.

        >>> from bertwright.hub.mappings.modernbert_names import MODERN
        >>> MODERN.to_hf("blocks.0.attention.key.weight")
        'model.layers.0.attn.Wqkv.weight'
        """
        if name == OUTPUT_WORDS:
            return self.decoder
        module, _, leaf = name.rpartition(".")
        if block := re.fullmatch(r"blocks\.(\d+)\.(.+)", module):
            return f"{self.blocks}.{block[1]}.{_holder(self.in_block, block[2])}.{leaf}"
        return f"{_holder(self.modules, module)}.{leaf}"

    def with_head(self, head_type: HeadType | None) -> Self:
        """Return how the class with the head of a task is written, or for None the class that `written_as` names."""
        called = None if head_type is None else self.pooled_as.get(head_type)
        if called is None:
            return self
        others = {name: local for name, local in self.modules.items() if local != (POOLER,)}
        left_out = tuple(name for name in self.left_out if not POOLER.startswith(name))
        return replace(self, modules={**others, called: (POOLER,)}, left_out=left_out)

    @property
    def decoder_bias(self) -> str:
        """Hugging Face's name of the bias beside the output matrix."""
        return f"{self.decoder.removesuffix('weight')}bias"

    def is_encoders(self, name: str) -> bool:
        """Say whether a Hugging Face weight is one of the encoder itself, not of a head."""
        return name.removeprefix(self.prefix).startswith(self.backbone)


def _holder(table: Mapping[str, tuple[str, ...]], local: str) -> str:
    """Return the first name in a table that holds a module of ours."""
    return next(name for name, several in table.items() if local in several)
