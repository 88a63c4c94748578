"""The lower bound of any preparation with Hugging Face parts: the tokenizers library alone, ids made and thrown away.

    python benchmarks/peers/tokenizers_alone.py corpus.jsonl --tokenizer DATA/tokenizer/tokenizer.json

Whole documents in batches of 1,000 on all cores; reading the JSON is not counted. Prints JSON: MB of text a second.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer


def main() -> None:
    """Encode a file and print how fast that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    text = tokens = 0
    seconds = 0.0
    with options.file.open(encoding="utf-8") as lines:
        while batch := [json.loads(line)["text"] for line in islice(lines, 1000)]:
            began = time.perf_counter()
            tokens += sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(batch))
            seconds += time.perf_counter() - began
            text += sum(len(document.encode()) for document in batch)
    figures = {
        "text_bytes": text,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "megabytes_per_second": round(text / seconds / 1e6, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
