"""Asks a model that `bertwright export` wrote, by onnxruntime: torch is not imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.errors import ModelError
from bertwright.hub.crf_file import read_crf
from bertwright.hub.onnx.onnx_folder import OnnxFolder, open_onnx
from bertwright.inference.batching import cpu_policy, logits_of
from bertwright.inference.embed_predictor import similarities_with
from bertwright.inference.embedder import exported_embedder
from bertwright.inference.inputs_of_predict import answers_of
from bertwright.inference.masked_words import Guess, guess_words
from bertwright.inference.next_sentence import shares_of_pairs
from bertwright.inference.task_predictor import answers_with
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.trained import task_of_head
from bertwright.tokenizer.load import load_tokenizer


def open_exported(
    folder: Path, *, top_k: int
) -> tuple[str | None, Callable[[Sequence[Any]], list[dict[str, Any]]], bool | None]:
    """Return what the head of an exported model is about, what answers questions with it, and whether those are pairs.

    Raises ModelError where the folder is damaged, and UsageError where onnxruntime is not installed.
    """
    opened = open_onnx(folder)
    if opened.head_type is None or opened.has_nsp_head:
        return None, _word_answers(opened, top_k=top_k), None
    if opened.head_type == "vector":
        return opened.head_type, similarities_with(exported_embedder(opened)), True
    task = task_of_head(opened.head_type, opened.problem, opened.labels, opened.extra_config)
    if isinstance(task, Tag):
        task = task.reading_by(read_crf(folder, tags=len(opened.labels)))
    encoder = TextEncoder(load_tokenizer(folder), max_length=opened.max_length)
    answer = answers_with(task, encoder, partial(logits_of, opened.logits, pace=cpu_policy()))
    return opened.head_type, answer, task.pairs


def _word_answers(opened: OnnxFolder, *, top_k: int) -> Callable[[Sequence[Any]], list[dict[str, Any]]]:
    tokenizer, positions, pace = load_tokenizer(opened.folder), opened.max_length, cpu_policy()

    def words(texts: list[str]) -> list[list[list[Guess]]]:
        if opened.has_nsp_head:
            raise ModelError(f"{opened.folder} has no masked-token head; export the folder RUN/model of its run")
        return guess_words(opened.logits, tokenizer, texts, top_k=top_k, positions=positions, pace=pace)

    def following(arrays: dict[str, np.ndarray]) -> np.ndarray:
        if opened.has_nsp_head:
            return opened.logits(arrays)
        if "nsp_logits" not in opened.about["outputs"]:
            raise ModelError(f"{opened.folder} has no next-sentence head; export a folder pre-trained with one")
        return opened.run(arrays)[1][:, None]

    def shares(pairs: list[tuple[str, str]]) -> list[float]:
        return shares_of_pairs(following, tokenizer, pairs, positions=positions, pace=pace)

    return lambda questions: answers_of(questions, words=words, shares=shares)
