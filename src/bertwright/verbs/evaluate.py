"""Turns a model and held-out data into figures: of masked words, next sentences, minimal pairs or a task.

What reads and evaluates is imported by a call: --help does not wait for readers and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from bertwright.flags import with_flags
from bertwright.result import Result
from bertwright.verbs.calls.evaluate_call import KINDS, check_evaluate


@with_flags("evaluate")
def evaluate(
    kind: str,
    model: Path | str,
    data: Path | str,
    *,
    split: str = "valid",
    length: int | None = None,
    num_rows: int | None = None,
    whole_word: bool | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    label_names: str | None = None,
    encoding: str | None = None,
    positive: str | None = None,
    against: Path | str | None = None,
    errors: bool = False,
    source: str | None = None,
    target: str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Result:
    """Evaluate a model, pre-trained or fine-tuned, on held-out data; rows and masks are fixed, and all is float32.

    Returns the figures by name.

    Parameters
    ----------
    kind
        mlm: loss (nats) and accuracy at masked tokens, 15% of all, in rows of full sentences of one document. nsp:
        does the second segment follow the first? accuracy, balanced accuracy (a constant answer: 50%) and the share of
        the more frequent class, and the figures of mlm on these rows where the model has the head for those too. Of a
        ModernBERT pre-trained with next sentences, mlm is a matter of RUN/model and nsp of RUN/model-nsp. sop: are two
        segments in the order of the text? Of models pre-trained with it, as nsp; ModernBERT's is RUN/model-sop.
        minimal-pairs: how often is the good sentence of a pair more probable than the bad one? classify, regress, tag,
        answer, choose, rank, translate, embed: the figures of a fine-tuned model.
    model
        Hugging Face folder of an encoder.
    data
        DATA folder prepared with the same tokenizer; for minimal-pairs a .jsonl or .json file of "good" and "bad";
        for tasks a labelled file; for translate SOURCE,TARGET files, a prefix or a table.
    split
        valid or train.
    length
        Tokens a row; on the data of the run that trained the model as in the run, elsewhere 128.
    num_rows
        Rows to evaluate on, at most one pass over the split; on the data of the run that trained the model as in the
        run, elsewhere 4,096; for minimal-pairs, pairs, evenly spread over the file.
    whole_word
        Mask whole words instead of single tokens; where not given, as in the run that trained the model on this data
        (--no-whole-word: single tokens there too).
    text_column
        For tasks: column of the text, or of the first text of a pair; found by its name where not given.
    pair_column
        For tasks: column of the second text of a pair.
    label_column
        For tasks: column of the label, score or tag.
    label_separator
        For classify with several labels a text: what stands between them in one column; found where not given.
    label_names
        For tag: what numbers stand for as tags, from 0 on, such as O,B-PER,I-PER; where not given, as the file says, or
        as in fine-tuning.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    positive
        For classify of two classes: the one whose F1 is reported; the second where not given, or as in fine-tuning.
    against
        For tasks: another model of it; differences of figures, their 95% interval and p by a paired bootstrap.
    errors
        For classify, regress, rank (its queries), tag, answer and choose: show where the model is wrong: figures by
        length, label and share of words that the vocabulary does not hold whole, each slice against the rest; how often
        it is right by how sure it is; the worst errors.
    source
        For translate: suffix of the source file (PREFIX.en: en), or column of the source text.
    target
        For translate: suffix of the target file, or column of the target text.
    columns
        The columns, encoding and label names above in one mapping, by "text", "pair", "label", "source" ...

    Raises
    ------
    UsageError
        For another kind, or a flag that this one has no use for.
    DataError
        Where model and data have different tokenizers.
    ModelError
        Where the model lacks the head it needs.
    InputError
        Where the labelled file does not fit, as in `finetune`.

    Examples
    --------
    >>> evaluate("mlm", "runs/en/model", "data/en")["mlm_accuracy"]  # needs a model  # doctest: +SKIP
    0.42
    """
    model, data = Path(model), Path(data)
    named = {
        "text": text_column,
        "pair": pair_column,
        "label": label_column,
        "label_separator": label_separator,
        "label_names": None if label_names is None else [name.strip() for name in label_names.split(",")],
        "encoding": encoding,
        "source": source,
        "target": target,
    }
    columns = {**(columns or {}), **{name: value for name, value in named.items() if value is not None}}
    rows = {"split": None if split == "valid" else split, "length": length, "whole_word": whole_word}
    check_evaluate(
        kind, model, columns, {**rows, "num_rows": num_rows}, positive=positive, against=against, errors=errors
    )
    if kind not in KINDS:
        from bertwright.inference.evaluate_task import evaluate_task  # brings torch along

        other = None if against is None else Path(against)
        return evaluate_task(kind, model, data, columns, positive=positive, against=other, errors=errors)
    from bertwright.verbs.calls.held_out_rows import Kind, evaluate_held_out, evaluate_pairs  # brings torch along

    if kind == "minimal-pairs":
        return evaluate_pairs(model, data, most=num_rows, encoding=columns.get("encoding"))
    return evaluate_held_out(
        cast(Kind, kind), model, data, split=split, length=length, count=num_rows, whole_word=whole_word
    )
