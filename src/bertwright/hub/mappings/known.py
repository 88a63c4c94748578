"""Names every architecture whose Hugging Face folders are read and written."""

from __future__ import annotations

from bertwright.errors import ModelError
from bertwright.hub.mappings.bert_names import BERT
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.modernbert_names import MODERN
from bertwright.model.config import ModelConfig

MAPPINGS: dict[str, HFMapping] = {
    "bert": BERT,
    "modernbert": MODERN,
}
"""How the folders of each architecture are written, by the model_type of config.json."""


def mapping_of(config: ModelConfig | type[ModelConfig]) -> HFMapping:
    """Return how Hugging Face writes down the architecture of settings; raises ModelError where nothing says."""
    kind = config if isinstance(config, type) else type(config)
    found = next((mapping for mapping in MAPPINGS.values() if mapping.config is kind), None)
    if found is None:
        raise ModelError(
            f"nothing says how Hugging Face writes down a model of {kind.__name__}; add it to MAPPINGS in "
            "hub/mappings/known.py"
        )
    return found
