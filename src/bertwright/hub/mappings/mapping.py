"""Says how Hugging Face writes down an architecture: the names of its settings and weights, and ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Part
from bertwright.tokenizer.load import SpecialIds


@dataclass(frozen=True)
class HFMapping:
    """Everything `encoder_folder.py` must know of one model_type of Hugging Face.

    what          the architecture as a model card calls it, with its source
    model_type    as in config.json
    written_as    the transformers class our pre-trained folders name
    bare          the transformers class without any head
    fine_tuned_as the transformers class of a model with a head, by what it is about
    head_called   their name of that head
    config        our settings of the architecture
    fields        Hugging Face's name of each setting, and ours
    absent        what settings of `fields` mean where config.json does not name them, where our default differs
    must_be       settings with one supported value, which is also what their absence means
    heads         beginnings of our names of weights that a folder may lack: an encoder saved alone has no heads
    left_out      beginnings of our names of weights that the class has no place for: they are kept in another folder
    decoder       their name of the output matrix, tied to `words`
    words         their name of the word embeddings
    inputs        what the model reads of a tokenizer
    to_ours       their name of a weight -> our names; several are stacked in theirs; none has no place in pre-training
    to_theirs     our name of a weight -> their name
    read_extra    config.json -> settings of ours that `fields` cannot say; raises ModelError
    write_extra   our settings and special tokens -> config.json entries that `fields` cannot say
    """

    what: str
    model_type: str
    written_as: str
    bare: str
    fine_tuned_as: Mapping[Part, str]
    head_called: Mapping[Part, str]
    config: type[ModelConfig]
    fields: Mapping[str, str]
    absent: Mapping[str, Any]
    must_be: Mapping[str, Any]
    heads: tuple[str, ...]
    left_out: tuple[str, ...]
    decoder: str
    words: str
    inputs: tuple[str, ...]
    to_ours: Callable[[str], tuple[str, ...]]
    to_theirs: Callable[[str], str]
    read_extra: Callable[[Mapping[str, Any]], dict[str, Any]]
    write_extra: Callable[[ModelConfig, SpecialIds], dict[str, Any]]
