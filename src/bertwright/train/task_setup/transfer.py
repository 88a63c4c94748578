"""Decides how pre-trained weights are treated while a task is learned: frozen, thawed, adapted, at which rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from bertwright.errors import ConfigError
from bertwright.log import note
from bertwright.model.encoder import parameter_count
from bertwright.model.layers.dropout import Dropout
from bertwright.model.lora import adapt
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned, depths, freeze
from bertwright.tasks.by_name import TASKS
from bertwright.train.callbacks.unfreeze import UnfreezeCallback
from bertwright.train.task_setup.finetune_config import FinetuneConfig, TransferConfig
from bertwright.train.task_setup.r_drop import ABLE

CRF_RATE = 50.0
"""How much faster the transitions of a CRF learn, since they start from nothing: with MiniLM at 6e-5 F1 0.630 after two
epochs of 1,500 sentences of CoNLL-2003 where they have 6e-3, against 0.616 at 1 and at 10 times 6e-5."""


PARTS = {"classifier": "head", "crf": "CRF"}
"""What parts of a model are called, where that is not the name they have in it."""


def check_transfer(config: FinetuneConfig, *, layers: int, folder: Any) -> None:
    """Raise ConfigError where the strategies asked for do not fit the model, or one another."""
    transfer = config.transfer
    if transfer.few_shot and config.task != "classify":
        raise ConfigError(f"transfer.few_shot: it is for classify, not for {config.task}; leave it out")
    if transfer.few_shot and (config.head.multi_label or config.head.windows):
        other = "head.multi_label" if config.head.multi_label else "head.windows"
        raise ConfigError(f"transfer.few_shot: it is for one label a text, without windows; leave it or {other} out")
    if transfer.few_shot and transfer.frozen(layers) >= layers:
        raise ConfigError("transfer.few_shot: every block is frozen, so no vector can move; freeze fewer")
    able = [name for name, task in TASKS.items() if task.head_type in ABLE]
    if transfer.r_drop and config.task not in able:
        raise ConfigError(f"transfer.r_drop: {config.task} has no use for it; it is for {', '.join(able)}")
    if transfer.frozen(layers) > layers:
        raise ConfigError(f"transfer.freeze: {folder} has {layers} blocks, not {transfer.freeze} to freeze")
    everything = transfer.frozen(layers) == layers
    usual = TransferConfig()
    if not transfer.lora_rank and (transfer.lora_alpha, transfer.lora_matrices) != (
        usual.lora_alpha,
        usual.lora_matrices,
    ):
        raise ConfigError("transfer.lora_rank: 0 means no adapters, which the other settings of LoRA are about; give 8")
    if transfer.lora_rank and everything:
        raise ConfigError("transfer.lora_rank: every block is frozen, so there is nothing to adapt; freeze fewer")
    if transfer.lora_rank and config.optimizer.name == "muon":
        raise ConfigError("optimizer.name: muon orthogonalises whole matrices, not adapters; give adamw with LoRA")
    if transfer.unfreeze and (everything or transfer.lora_rank):
        raise ConfigError("transfer.unfreeze: there is nothing to thaw; give it without --freeze-layers all and LoRA")
    if transfer.unfreeze and config.engine.compile:
        raise ConfigError("engine.compile: blocks that thaw along the run are not compiled; give it without --unfreeze")


def treat(model: FineTuned, transfer: TransferConfig) -> None:
    """Freeze, adapt and set dropout in a new model."""
    layers = model.encoder.config.layers
    frozen = transfer.frozen(layers)
    freeze(model, frozen)
    if transfer.lora_rank:
        adapt(model, transfer.lora_matrices, rank=transfer.lora_rank, alpha=transfer.lora_alpha)
    # Features of an encoder that does not learn are the same each time.
    dropout = 0.0 if transfer.dropout is None and frozen == layers else transfer.dropout
    set_dropout(model.encoder, dropout)
    if transfer.r_drop and not any(isinstance(module, Dropout) and module.rate for module in model.encoder.modules()):
        note("R-Drop compares two draws of dropout, and this encoder has none but before its head; give --dropout 0.1")


def trained_count(model: nn.Module) -> int:
    """Return the number of weights of a model that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def note_trained(model: nn.Module) -> None:
    """Say before the first step how many weights of a model are trained, and which."""
    trained, every = trained_count(model), parameter_count(model)
    if trained == every:
        note(f"all {every:,} weights are trained")
    else:
        note(f"{trained:,} of {every:,} weights are trained ({trained / every:.2%}): {', '.join(trained_parts(model))}")


def trained_parts(model: nn.Module) -> list[str]:
    """Return what parts of a model have weights that are trained, such as blocks 4 to 6, in order.

    >>> trained_parts(nn.ModuleDict({"encoder": nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1, 1)])})}))
    ['block 1']
    """
    found: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            side, *inner = name.split(".")
            of = "decoder " if side == "decoder" else ""
            first = inner[0] if side in ("encoder", "decoder") else side
            if first == "blocks":
                kind = "adapters in block" if "parametrizations" in inner else "block"
                found.setdefault(of + kind, []).append(int(inner[1]) + 1)
            else:
                found.setdefault(of + PARTS.get(first, first), [])
    return [part + _range(numbers) for part, numbers in found.items()]


def _range(numbers: Sequence[int]) -> str:
    """Return the numbers of blocks as people write them: nothing, one of them, or from the first to the last."""
    if not numbers:
        return ""
    return f" {numbers[0]}" if min(numbers) == max(numbers) else f"s {min(numbers)} to {max(numbers)}"


def set_dropout(model: nn.Module, fraction: float | None) -> None:
    """Set the fraction of values that every dropout of a model drops; None leaves all as they are."""
    for module in model.modules():
        if isinstance(module, Dropout) and fraction is not None:
            module.rate = fraction


def learning_rates(model: FineTuned | SentenceEncoder, decay: float, *, top: int) -> dict[str, float] | None:
    """Return the factor on the learning rate of each parameter, or None where all are 1.

    It is 1 from depth `top` on, and falls by `decay` from each block to the one below it.
    """
    rates = {name: decay ** (top - min(depth, top)) for name, depth in depths(model).items()}
    rates |= {name: CRF_RATE for name in rates if name.startswith("crf.")}
    return None if set(rates.values()) == {1.0} else rates


def unfreezing(model: FineTuned, transfer: TransferConfig) -> UnfreezeCallback | None:
    """Return the callback that unfreezes the blocks from the last to the first, then the embeddings; or None."""
    if not transfer.unfreeze:
        return None
    deep, top = depths(model), model.encoder.config.layers + 1
    trained = [(deep[name], parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    order = sorted({depth for depth, _ in trained if depth < top}, reverse=True)
    groups = [[parameter for depth, parameter in trained if depth == wanted] for wanted in order]
    return UnfreezeCallback(groups, transfer.unfreeze)
