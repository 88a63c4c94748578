"""Turns the counts of an examination into findings: what was found, whether it hurts, and the flag that fixes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertwright.corpus.encode import SEGMENTED
from bertwright.corpus.filters.language_choice import both_ways, scripts_of
from bertwright.corpus.profile import LONG_LINE, NEAR, Examination
from bertwright.corpus.readers.inputs import NAMED, count_by_suffix

if TYPE_CHECKING:
    from bertwright.verbs.doctor import Looked

USUAL_SIZE = 8192
"""Tokens of the smallest vocabulary that `prepare` trains where no size is given."""
STOPPED = "prepare"
"""What a file that cannot be read spoils."""


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    name, figure   what was looked for, and what was found, in words
    value          the figure as a share, or None where it was not told
    hurts          "", "MLM", "NSP", "MLM and NSP", "judging" or "prepare": what this much of it spoils
    remedy         the flag or the act that fixes it; "" where there is nothing to do
    """

    name: str
    figure: str
    value: float | None
    hurts: str
    remedy: str

    @property
    def verdict(self) -> str:
        """What to think of it, in a word or two."""
        if self.value is None:
            return "not told"
        return f"stops {STOPPED}" if self.hurts == STOPPED else f"hurts {self.hurts}" if self.hurts else "fine"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**asdict(self), "verdict": self.verdict}


def _finding(name: str, value: float, figure: str, *, most: float, hurts: str, remedy: str) -> Finding:
    """Return a finding that hurts where its share is above `most`."""
    return Finding(name, figure, value, hurts if value > most else "", remedy if value > most else "")


def findings_of(examination: Examination, looked: Looked, *, prepared: bool) -> list[Finding]:
    """Return all findings, in the order in which they should be fixed; `prepared` for those of a DATA folder."""
    found = [*_files(looked), *_copies(examination, prepared), _languages(examination), *_damage(examination, prepared)]
    found += _chinese(examination, looked, prepared)
    found += [_single_sentences(examination, prepared), *_lines(examination, prepared), *_tokens(looked)]
    if looked.held_out is not None:
        found.append(
            _finding(
                "held-out documents that are in the training text",
                looked.held_out,
                f"{looked.held_out:.2%}",
                most=0.01,
                hurts="judging",
                remedy="prepare --near-duplicates 0.8, or --valid other texts",
            )
        )
    for path, (texts, copied) in looked.tests.items():
        share = copied / max(1, texts)
        figure = f"{share:.2%} ({copied:,} of {texts:,})"
        remedy = "leave the source of these out of the input, or say so beside the score"
        found.append(
            _finding(
                f"texts of {'/'.join(Path(path).parts[-2:])} in the corpus",
                share,
                figure,
                most=0.01,
                hurts="judging",
                remedy=remedy,
            )
        )
    return found


def _share(examination: Examination, what: str) -> float:
    return examination.counts[what] / max(1, examination.counts["documents"])


def _files(looked: Looked) -> list[Finding]:
    """Return which files `prepare` refuses, and which it does not read; nothing where there are none."""
    found = []
    if looked.refused:
        share = len(looked.refused) / max(1, looked.files)
        figure = f"{len(looked.refused):,} of {looked.files:,}"
        found.append(Finding("files that prepare refuses", figure, share, STOPPED, looked.refused[0]))
    if looked.skipped:
        share = len(looked.skipped) / (len(looked.skipped) + looked.files)
        names = ", ".join(path.name for path in looked.skipped[:NAMED]) + ", ..." * (len(looked.skipped) > NAMED)
        remedy = f"convert them if their text belongs to the corpus: {names}"
        found.append(Finding("files that are not read", count_by_suffix(looked.skipped), share, "", remedy))
    return found


def _copies(examination: Examination, prepared: bool) -> list[Finding]:
    exact, near = _share(examination, "duplicate"), _share(examination, "near_duplicate")
    drops = "" if prepared or not exact else "nothing: prepare drops them"
    return [
        Finding("exact copies of documents", f"{exact:.2%}", exact, "MLM" if prepared and exact > 0.01 else "", drops),
        _finding(
            f"near-copies (Jaccard {NEAR} or more)", near, f"{near:.2%}", most=0.01, hurts="MLM",
            remedy=f"prepare --near-duplicates {NEAR}",
        ),
    ]  # fmt: skip


def _languages(examination: Examination) -> Finding:
    total = sum(examination.languages.values())
    if not total:
        return Finding("language", examination.language_missing or "no text", None, "", "")
    most = [(code or "unsure", count / total) for code, count in examination.languages.most_common(4)]
    sure = total - examination.languages[""]
    main = next((code for code, _ in examination.languages.most_common() if code), "")
    other = 1 - examination.languages[main] / sure if sure else 0.0
    figure = ", ".join(f"{code} {share:.1%}" for code, share in most)
    return _finding(
        "language", other, figure, most=0.05, hurts="MLM",
        remedy=f"prepare --only-language {main}, or a vocabulary large enough for all",
    )  # fmt: skip


def _chinese(examination: Examination, looked: Looked, prepared: bool) -> list[Finding]:
    """Return what the language of the preparation means for Chinese text; nothing where there is little of it."""
    scripts, language = scripts_of(examination.scripts), looked.language
    if not (scripts.is_chinese or scripts.is_mixed):
        return []
    figure = f"{scripts.han:.1%} of the letters, prepared as {language}"
    if language in SEGMENTED:
        return [Finding("Chinese text", figure, scripts.han, "", "")]
    again = "prepare again with" if prepared else "prepare"
    if scripts.is_mixed:
        return [Finding("Chinese text", figure, scripts.han, "", both_ways(scripts, language))]
    remedy = f"{again} --language zh: else words are single characters, and whole-word masking does nothing"
    return [Finding("Chinese text", figure, scripts.han, "MLM", remedy)]


def _damage(examination: Examination, prepared: bool) -> list[Finding]:
    mojibake, replaced, control = (_share(examination, what) for what in ("mojibake", "replaced", "control"))
    lost = _finding(
        "documents with lost characters (U+FFFD)", replaced, f"{replaced:.2%}", most=0.001, hurts="MLM",
        remedy="convert the files again from the encoding they were written in",
    )  # fmt: skip
    if prepared:
        return [lost]
    fixes = "nothing: prepare fixes them"
    return [
        Finding(
            "documents read in a wrong encoding (Ã©, â€œ)", f"{mojibake:.2%}", mojibake, "", fixes if mojibake else ""
        ),
        lost,
        Finding("documents with control characters", f"{control:.2%}", control, "", fixes if control else ""),
    ]


def _single_sentences(examination: Examination, prepared: bool) -> Finding:
    kept = examination.counts["documents"] - examination.counts["empty"] - examination.counts["duplicate"]
    documents = examination.counts["all_documents"] if prepared else kept
    share = examination.counts["one_sentence"] / max(1, documents)
    again = "prepare again with" if prepared else "prepare"
    remedy = f"{again} --document-boundary file or blank if lines were taken for documents, or pretrain without pairs: "
    return _finding(
        "documents of one sentence", share, f"{share:.2%}", most=0.2, hurts="NSP",
        remedy=f"{remedy}--objective.next-sentence false",
    )  # fmt: skip


def _lines(examination: Examination, prepared: bool) -> list[Finding]:
    if prepared:
        return []
    share = examination.counts["long_line_bytes"] / max(1, examination.counts["bytes"])
    figure = f"{examination.counts['long_line']:,} documents, {share:.2%} of the text"
    return [
        _finding(
            f"lines of over {LONG_LINE:,} characters", share, figure, most=0.01, hurts="MLM and NSP",
            remedy="prepare --filter web, if they are code, tables or logs",
        )
    ]  # fmt: skip


def _tokens(looked: Looked) -> list[Finding]:
    if not looked.tokens:
        return [Finding("unknown tokens", "give --tokenizer, or examine the DATA folder", None, "", "")]
    share = looked.tokens["unknown"] / max(1, looked.tokens["all"])
    remedy = "prepare without --tokenizer, so that a vocabulary of this text is trained"
    if looked.trained_vocabulary:
        size = looked.trained_vocabulary
        remedy = f"prepare again with a larger vocabulary: --vocab-size {max(2 * size, USUAL_SIZE)} (now {size:,})"
    return [_finding("unknown tokens", share, f"{share:.3%}", most=0.005, hurts="MLM", remedy=remedy)]
