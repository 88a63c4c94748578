"""The peer of `prepare`: Hugging Face datasets, tokenise and group into rows, as its own example does.

    python benchmarks/peers/group_texts.py corpus.jsonl --tokenizer DATA/tokenizer/tokenizer.json

Fast tokenizer, batched, two processes where there are two cores. Prints JSON: MB of text a second, bytes on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import PreTrainedTokenizerFast


def main() -> None:
    """Prepare a file and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(options.tokenizer), **special)

    def tokenise(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], return_special_tokens_mask=True)

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(chain.from_iterable(values)) for name, values in batch.items()}
        whole = len(joined["input_ids"]) // options.length * options.length
        return {
            name: [values[at : at + options.length] for at in range(0, whole, options.length)]
            for name, values in joined.items()
        }

    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        texts = load_dataset("json", data_files=str(options.file), split="train", cache_dir=scratch)
        columns = texts.column_names
        rows = texts.map(tokenise, batched=True, num_proc=processes, remove_columns=columns).map(
            group, batched=True, num_proc=processes
        )
        seconds = time.perf_counter() - began
        disk = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        text = sum(len(line.encode()) for batch in texts.iter(1000) for line in batch["text"])
    figures = {
        "text_bytes": text,
        "rows": len(rows),
        "seconds": round(seconds, 2),
        "megabytes_per_second": round(text / seconds / 1e6, 2),
        "disk_bytes_per_text_byte": round(disk / text, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
