"""Asks a model of sentence vectors how alike texts are, and judges it on pairs or scores.

torch is imported by what judges, so that an exported model is asked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.inference.embedder import Embedder, open_embedder
from bertwright.log import print_facts, print_table
from bertwright.tasks.embedding.metrics import cosines

if TYPE_CHECKING:
    from bertwright.tasks.columns import ColumnsConfig
    from bertwright.tasks.embedding.reader import Sentences


def similarities_with(opened: Embedder) -> Callable[[Sequence[tuple[str, ...]]], list[dict[str, Any]]]:
    """Return what gives the cosine of the vectors of each pair of texts: {"first", "second", "similarity"}, in order.

    It raises UsageError where one is a text alone.
    """

    def answer(pairs: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        if any(len(pair) != 2 for pair in pairs):
            raise UsageError(
                f"{opened.folder} says how alike two texts are: give pairs (a tab between the texts of a line), or ask "
                "`bertwright embed` for vectors"
            )
        number = {text: place for place, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
        vectors = opened.vectors(list(number))
        near = cosines(vectors[[number[a] for a, _ in pairs]], vectors[[number[b] for _, b in pairs]])
        return [
            {"first": first, "second": second, "similarity": value}
            for (first, second), value in zip(pairs, near.tolist(), strict=True)
        ]

    return answer


def evaluate_sentences(folder: Path, file: Path, columns: ColumnsConfig) -> dict[str, float]:
    """Return the figures of a model of sentence vectors on a file of pairs or scored pairs, and print them.

    Raises ModelError where the folder says nothing of how its vectors are made, and InputError as `finetune` does.
    """
    from bertwright.hub.sentence_layout import is_sentence_folder
    from bertwright.tasks.embedding.task import evaluate_vectors

    if not is_sentence_folder(folder):
        raise ModelError(f"{folder} is no model of sentence vectors; give what `bertwright finetune embed` wrote")
    examples = read_judged(file, columns)
    result = evaluate_vectors(open_embedder(folder).vectors(examples.texts), examples)
    print_facts(f"{folder} on {file}", {name.replace("_", " "): f"{v:.4f}" for name, v in result.figures.items()})
    if result.table is not None:
        print_table(result.table.title, result.table.header, result.table.rows)
    return result.figures


def read_judged(file: Path, columns: ColumnsConfig) -> Sentences:
    """Return the examples of a file that vectors can be judged by; raises CorpusError where it holds texts alone."""
    from bertwright.tasks.embedding.reader import read_sentences

    examples = read_sentences(file, columns, kind=None)
    if examples.kind == "texts":
        raise CorpusError(
            f"{file} holds texts alone, by which nothing can be judged; give pairs, or pairs with a score (vectors of "
            "texts alone: bertwright embed)"
        )
    return examples
