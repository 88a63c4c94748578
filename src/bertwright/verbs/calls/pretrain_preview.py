"""Says what a call of `pretrain` would do, and how much disk it would take, without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
import torch

from bertwright.data.pretraining.dataset import open_dataset
from bertwright.device import pick_device, resolve_precision
from bertwright.files import free_space, human_bytes
from bertwright.hub.nsp_folder import has_own_folder
from bertwright.log import Facts, Lines
from bertwright.model.build import build_encoder
from bertwright.model.encoder import Encoder, parameter_count
from bertwright.result import Result
from bertwright.train.parallel.group import Group
from bertwright.train.setup.assemble import require_rows
from bertwright.train.setup.init_from import Start, require_start
from bertwright.train.setup.pretrain_config import PretrainConfig


def disk_needed(model: Encoder, config: PretrainConfig, *, auxiliary: int = 0) -> int:
    """Return about how many bytes a run writes: checkpoints (weights, two moments, average), its models, its metrics.

    A checkpoint also holds the state to go back to, unless none is kept, and `auxiliary` parameters of objectives.
    """
    weights, exported = 4 * (parameter_count(model) + auxiliary), 4 * parameter_count(model)
    copies = (3 if config.average.name == "none" else 4) * (2 if config.guard.attempts else 1)
    models = (2 if has_own_folder(model) else 1) + (config.engine.snapshots or 0)
    kept = config.engine.keep + 1 + (config.schedule.hold_ends is not None)
    return weights * copies * kept + exported * models + 20_000_000


def preview_run(
    data: Path, out: Path, config: PretrainConfig, group: Group, *, start: Start | None = None, resumes: bool = False
) -> Result:
    """Return what a run would be: its settings, model, data and disk. Raises what building it would raise.

    `start` is the model it would go on from; none is needed where it `resumes`.
    """
    require_rows(config, group)
    dataset = open_dataset(config.folders(data), mixture=config.data.shares)
    if not resumes:
        require_start(dataset, config, start)
    with torch.device("meta"):
        shape = config.shape(vocab_size=dataset.vocab_size, pad_token_id=dataset.tokenizer.special.pad)
        model = build_encoder(shape, drawn=False)
    device, schedule = pick_device(), config.schedule
    plan: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude_none=True),
        "parameters": parameter_count(model),
        "precision": resolve_precision(config.engine.precision, device),
        "device": str(device),
        "disk_bytes": disk_needed(model, config),
        "free_bytes": free_space(out),
        "out": str(out),
    }
    if not group.is_main:
        return Result(plan)
    phases = [f"{phase.rows} rows of {phase.length} for {phase.share:.0%}" for phase in schedule.phases]
    optimizer = config.optimizer
    muon = f", Muon at {optimizer.muon_learning_rate:g}" if optimizer.name == "muon" else ""
    facts = {
        **({"goes on from": f"{config.start.model_type}, SHA-256 {config.start.sha256[:12]}"} if config.start else {}),
        "model": f"{config.model.architecture} {config.size}: {shape.layers} layers, width {shape.hidden_size}, "
        f"{shape.heads} heads, {plan['parameters']:,} parameters",
        "data": f"{', '.join(map(str, dataset.folders))}: vocabulary of {shape.vocab_size:,} tokens",
        "run": f"{schedule.amount:g} {schedule.unit}: {'; '.join(phases)}",
        "learning rate": f"{optimizer.learning_rate:g}{muon}, warm-up {schedule.warmup:.0%}",
        "device": f"{plan['precision']} on {device}{f', {group.size} processes' if group.size > 1 else ''}",
        "disk": f"about {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
    }
    return Result(plan, Lines([tomli_w.dumps(plan["settings"])]), Facts(f"dry run: pretrain would write {out}", facts))
