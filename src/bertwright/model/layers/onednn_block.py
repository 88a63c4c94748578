"""BERT's block for many answers on a CPU: its weights are laid out for oneDNN once, not again in every product.

Biases, the GELU and the residual are added within the products, while their results are in cache. These products are
the ones torch's compiler calls for a frozen model; calling them here takes no minute of compiling. Attention is torch's
fused kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bertwright.model.bert import Block
from bertwright.model.layers.activations import ACTIVATIONS
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask
from bertwright.model.layers.linear import Linear

ONEDNN_NAMES = {
    ACTIVATIONS["gelu"]: ("gelu", "none"),
    ACTIVATIONS["gelu_new"]: ("gelu", "tanh"),
    ACTIVATIONS["relu"]: ("relu", ""),
}
"""What oneDNN's products call the activations of a block, and their variant."""


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether weights of a type can be laid out beforehand on a device: a CPU's, where torch has oneDNN's products.

    Those of bfloat16 need instructions that not every processor has.
    """
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    has_products = has_onednn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if device.type != "cpu" or not has_products:
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(model: nn.Module) -> None:
    """Replace the blocks of BERT in a model that is trained no more; the answers stay the same but for rounding.

    The weights are kept as they were, too, and the model can no longer be saved.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Block):
                setattr(parent, name, PackedBlock(child))


class PackedBlock(nn.Module):
    """A `Block` in evaluation mode."""

    def __init__(self, block: Block) -> None:
        """Lay out the weights of `block`, and keep it for what is computed at few positions."""
        super().__init__()
        attention = block.attention
        self.block = block
        self.query_key_value = PackedLinear([attention.query, attention.key, attention.value])
        self.output = PackedLinear([attention.output])
        self.inner = PackedLinear([block.inner])
        self.outer = PackedLinear([block.outer])
        self.then = ONEDNN_NAMES[block.activation]
        self.attend = attention.attend_once if type(attention) is Attention else attention.attend

    def forward(self, hidden: Tensor, mask: AttentionMask | LongRowMask, at: Tensor | None = None) -> Tensor:
        """Return hidden states [B, S, H] from hidden states and the mask of their rows; [B, M, H] with `at`."""
        if at is not None:
            computed: Tensor = self.block(hidden, mask, at)
            return computed
        found = self.attend(self.query_key_value(hidden), mask)
        attended = self.block.attention_norm(self.output.added_to(hidden, found))
        expanded = self.inner(attended, then=self.then)
        normalised: Tensor = self.block.norm(self.outer.added_to(attended, expanded))
        return normalised


class PackedLinear:
    """Linear layers side by side over the same input, as one product."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        """Copy the weights of the layers, all with a bias, into the order in which oneDNN reads them."""
        weight = torch.cat([layer.weight.detach() for layer in layers])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.bias = torch.cat([layer.bias.detach() for layer in layers])

    def __call__(self, values: Tensor, *, then: tuple[str, str] = ("none", "")) -> Tensor:
        """Return [..., O] of values [..., I], after the function called `then`, and its variant."""
        name, variant = then
        product: Tensor = torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, name, [], variant)
        return product

    def added_to(self, others: Tensor, values: Tensor) -> Tensor:
        """Return others [..., O] plus the product of values [..., I]."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(values, others, self.weight, self.bias, "add")
        return total
