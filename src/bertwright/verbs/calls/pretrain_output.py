"""Turns a pre-training run into its folder: manifest and settings when it begins, model and figures when it is done."""

from __future__ import annotations

from pathlib import Path

from bertwright.config import write_toml
from bertwright.data.pretraining.dataset import Dataset
from bertwright.files import require_space, write_json
from bertwright.hub.cards.model_cards import model_card, next_sentence_card
from bertwright.hub.encoder_folder import save_model
from bertwright.hub.nsp_folder import FOLDER, has_own_folder, save_next_sentence
from bertwright.inference.samples import choose_samples, predict_samples
from bertwright.log import Facts
from bertwright.model.bert import BertForPreTraining
from bertwright.model.embedding_size import shrink_embeddings
from bertwright.model.encoder import parameter_count
from bertwright.reports.html_report import write_report
from bertwright.reports.pretrain_result import facts, result, run_manifest
from bertwright.result import Result
from bertwright.train.auxiliary import encoder_of
from bertwright.train.checkpoint.resume import whole_model
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.verbs.calls.pretrain_preview import disk_needed
from bertwright.verbs.calls.run_folder import require_free


def begin_folder(
    out: Path, dataset: Dataset, config: PretrainConfig, state: TrainState, engine: Engine, *, clear: bool
) -> None:
    """Write the manifest and the settings of a run that begins or goes on, where the disk has room for all of it.

    `clear` deletes an earlier run in its folder. Raises DiskSpaceError.
    """
    encoder = encoder_of(state.model)
    auxiliary = parameter_count(state.model) - parameter_count(encoder)
    require_space(out, disk_needed(encoder, config, auxiliary=auxiliary), what="this run")
    if clear:
        require_free(out, dataset.folders, overwrite=True, clear=True)
    write_json(out / "manifest.json", run_manifest(dataset, encoder, engine))
    write_toml(out / "config.toml", config)


def finish(
    out: Path, dataset: Dataset, config: PretrainConfig, state: TrainState, engine: Engine, *, peak: float
) -> Result:
    """Write the model folder of a run that is done, its result.json and its report; return the figures.

    The first process writes, and alone has the figures.
    """
    group, tokenizer = engine.group, dataset.tokenizer
    figures = result(out, dataset, config, state, peak=peak) if group.is_main else {}
    if group.any(figures.get("weights") == "average") and state.average is not None:
        state.average.swap()
    model = whole_model(state, sharded=engine.sharded)
    if not group.is_main:
        return Result({})
    held_out = dataset.valid[0]
    if figures["weights"] == "average" and figures["samples"] and held_out is not None:
        figures["samples"] = predict_samples(model, tokenizer, choose_samples(held_out, tokenizer))
    if config.model.init == "cooccurrence" and isinstance(model, BertForPreTraining):
        shrink_embeddings(model)  # the start has large ones, which fine-tuning would hardly move
    words = tokenizer.path.parent
    if has_own_folder(model):
        figures["next_sentence_model"] = FOLDER
        save_next_sentence(model, words, out / FOLDER, card=next_sentence_card(out.name, figures))
    save_model(model, words, out / "model", card=model_card(out.name, figures))
    write_json(out / "result.json", figures)
    write_report(out)
    return Result(figures, Facts(f"pre-trained: {out / 'model'}", facts(figures)))
