"""The verb `evaluate`: figures of a trained model on held-out data."""

from __future__ import annotations

from pathlib import Path


def evaluate_command(
    kind: str,
    *,
    model: Path,
    data: Path,
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
    source: str | None = None,
    target: str | None = None,
) -> None:
    """Judge a model, pre-trained or fine-tuned.

    Example:
        bertwright evaluate mlm --model runs/en/model --data data/en
        bertwright evaluate minimal-pairs --model runs/en/model --data blimp.jsonl.zst
        bertwright evaluate classify --model runs/sentiment/model --data test.tsv

    Parameters
    ----------
    kind
        mlm: loss (nats) and accuracy at masked tokens, 15% of all. nsp: does the second segment follow the first?
        accuracy, balanced accuracy (a constant answer: 50%) and the share of the commoner class.
        Of a ModernBERT pre-trained with next sentences, mlm is asked of RUN/model and nsp of RUN/model-nsp.
        minimal-pairs: how often is the good sentence of a pair likelier than the bad one? classify, regress, tag,
        answer, choose, translate, embed: the figures of a fine-tuned model.
    model
        Hugging Face BERT or ModernBERT folder.
    data
        DATA folder prepared with the same tokenizer; for minimal-pairs a .jsonl or .json file of "good" and "bad";
        for tasks a labelled file; for translate SOURCE,TARGET files, a prefix or a table.
    split
        valid or train.
    length
        Tokens a row; on the data of the model's own run as in the run, elsewhere 128.
    num_rows
        Rows to evaluate on, at most one pass over the split; as in the model's own run on its data, elsewhere 4,096;
        for minimal-pairs, pairs, evenly spread over the file.
    whole_word
        Mask whole words instead of single tokens; on the data of the model's own run as in the run.
    text_column
        For tasks: column of the text, or of the first text of a pair; told by its name where not given.
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
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is found and said.
    positive
        For classify of two classes: the one whose F1 is reported; the second where not given, or as in fine-tuning.
    source
        For translate: suffix of the source file (PREFIX.en: en), or column of the source text.
    target
        For translate: suffix of the target file, or column of the target text.
    """
    from bertwright.verbs.evaluate import evaluate

    names = None if label_names is None else [name.strip() for name in label_names.split(",")]
    given = {
        "text": text_column,
        "pair": pair_column,
        "label": label_column,
        "label_separator": label_separator,
        "label_names": names,
        "encoding": encoding,
        "source": source,
        "target": target,
    }
    columns = {name: column for name, column in given.items() if column is not None}
    evaluate(
        kind, model, data, split=split, length=length, num_rows=num_rows, whole_word=whole_word, columns=columns,
        positive=positive,
    )  # fmt: skip
