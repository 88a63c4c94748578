"""Turns the profile of a corpus into findings: what was found, whether it hurts, and the flag that fixes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertwright.corpus.encode import SEGMENTED
from bertwright.corpus.filters.language import both_ways, scripts_of
from bertwright.corpus.profile import LONG_LINE, NEAR, Profile
from bertwright.corpus.readers.inputs import NAMED, count_by_suffix
from bertwright.corpus.vocabulary import SIZES

STOPPED = "prepare"
"""What a file that cannot be read spoils."""


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    name, figure   what was looked for, and what was found, in words
    value          the figure as a fraction, or None where it is not known
    hurts          "", "MLM", "NSP", "MLM and NSP", "evaluation" or "prepare": what this much of it spoils
    remedy         the flag or the act that fixes it; "" where there is nothing to do
    """

    name: str
    figure: str
    value: float | None
    hurts: str = ""
    remedy: str = ""

    @property
    def verdict(self) -> str:
        """What to think of it, in a word or two."""
        if self.value is None:
            return "not known"
        return f"stops {STOPPED}" if self.hurts == STOPPED else f"hurts {self.hurts}" if self.hurts else "fine"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**asdict(self), "verdict": self.verdict}


def _finding(name: str, value: float, figure: str, *, most: float, hurts: str, remedy: str) -> Finding:
    """Return a finding that hurts where its fraction is above `most`."""
    return Finding(name, figure, value, hurts if value > most else "", remedy if value > most else "")


def findings_of(profile: Profile) -> list[Finding]:
    """Return all findings, in the order in which they should be fixed."""
    found = [*_files(profile), *_copies(profile), _languages(profile), *_damage(profile), *_chinese(profile)]
    found += [_single_sentences(profile), *_long_lines(profile), _tokens(profile)]
    if profile.held_out is not None:
        found.append(
            _finding(
                "held-out documents that are in the training text", profile.held_out, f"{profile.held_out:.2%}",
                most=0.01, hurts="evaluation", remedy="prepare --near-duplicates 0.8, or --valid other texts",
            )
        )  # fmt: skip
    for path, (texts, copied) in profile.tests.items():
        fraction = copied / max(1, texts)
        name, figure = "/".join(Path(path).parts[-2:]), f"{fraction:.2%} ({copied:,} of {texts:,})"
        remedy = "leave the source of these out of the input, or say so beside the score"
        found.append(
            _finding(f"texts of {name} in the corpus", fraction, figure, most=0.01, hurts="evaluation", remedy=remedy)
        )
    return found


def _files(profile: Profile) -> list[Finding]:
    """Return which files `prepare` refuses, and which it does not read; nothing where there are none."""
    found, refused, skipped = [], profile.refused, profile.skipped
    if refused:
        fraction = len(refused) / max(1, profile.files)
        figure = f"{len(refused):,} of {profile.files:,}"
        found.append(Finding("files that prepare refuses", figure, fraction, STOPPED, refused[0]))
    if skipped:
        fraction = len(skipped) / (len(skipped) + profile.files)
        names = ", ".join(path.name for path in skipped[:NAMED]) + ", ..." * (len(skipped) > NAMED)
        remedy = f"convert them if their text belongs to the corpus: {names}"
        found.append(Finding("files that are not read", count_by_suffix(skipped), fraction, "", remedy))
    return found


def _copies(profile: Profile) -> list[Finding]:
    exact, near = profile.fraction("duplicate"), profile.fraction("near_duplicate")
    drops = "" if profile.prepared or not exact else "nothing: prepare drops them"
    hurts = "MLM" if profile.prepared and exact > 0.01 else ""
    return [
        Finding("exact copies of documents", f"{exact:.2%}", exact, hurts, drops),
        _finding(
            f"near-copies (Jaccard {NEAR} or more)", near, f"{near:.2%}", most=0.01, hurts="MLM",
            remedy=f"prepare --near-duplicates {NEAR}",
        ),
    ]  # fmt: skip


def _languages(profile: Profile) -> Finding:
    languages = profile.documents.languages
    total = sum(languages.values())
    if not total:
        return Finding("language", profile.documents.language_missing or "no text", None)
    figure = ", ".join(f"{code or 'unsure'} {count / total:.1%}" for code, count in languages.most_common(4))
    sure = total - languages[""]
    main = next((code for code, _ in languages.most_common() if code), "")
    other = 1 - languages[main] / sure if sure else 0.0
    return _finding(
        "language", other, figure, most=0.05, hurts="MLM",
        remedy=f"prepare --only-language {main}, or a vocabulary large enough for all",
    )  # fmt: skip


def _chinese(profile: Profile) -> list[Finding]:
    """Return what the language of the preparation means for Chinese text; nothing where there is little of it."""
    scripts, language = scripts_of(profile.documents.scripts), profile.language
    if not (scripts.is_chinese or scripts.is_mixed):
        return []
    hurts = remedy = ""
    if scripts.is_mixed and language not in SEGMENTED:
        remedy = both_ways(scripts, language)
    elif language not in SEGMENTED:
        hurts, again = "MLM", "prepare again with" if profile.prepared else "prepare"
        remedy = f"{again} --language zh: else words are single characters, and whole-word masking does nothing"
    figure = f"{scripts.han:.1%} of the letters, prepared as {language}"
    return [Finding("Chinese text", figure, scripts.han, hurts, remedy)]


def _damage(profile: Profile) -> list[Finding]:
    mojibake, replaced, control = (profile.fraction(fault) for fault in ("mojibake", "replaced", "control"))
    lost = _finding(
        "documents with lost characters (U+FFFD)", replaced, f"{replaced:.2%}", most=0.001, hurts="MLM",
        remedy="convert the files again from the encoding they were written in",
    )  # fmt: skip
    if profile.prepared:
        return [lost]
    wrong, fixes = "documents read in a wrong encoding (Ã©, â€œ)", "nothing: prepare fixes them"
    return [
        Finding(wrong, f"{mojibake:.2%}", mojibake, "", fixes if mojibake else ""),
        lost,
        Finding("documents with control characters", f"{control:.2%}", control, "", fixes if control else ""),
    ]


def _single_sentences(profile: Profile) -> Finding:
    counts = profile.documents.counts
    kept = counts["documents"] - counts["empty"] - counts["duplicate"]
    fraction = counts["one_sentence"] / max(1, counts["all_documents"] if profile.prepared else kept)
    again = "prepare again with" if profile.prepared else "prepare"
    remedy = f"{again} --document-boundary file or blank if lines were taken for documents, or pretrain without pairs: "
    return _finding(
        "documents of one sentence", fraction, f"{fraction:.2%}", most=0.2, hurts="NSP",
        remedy=f"{remedy}--objective.next-sentence false",
    )  # fmt: skip


def _long_lines(profile: Profile) -> list[Finding]:
    if profile.prepared:
        return []
    counts = profile.documents.counts
    fraction = counts["long_line_bytes"] / max(1, counts["bytes"])
    figure = f"{counts['long_line']:,} documents, {fraction:.2%} of the text"
    return [
        _finding(
            f"lines of over {LONG_LINE:,} characters", fraction, figure, most=0.01, hurts="MLM and NSP",
            remedy="prepare --filter web, if they are code, tables or logs",
        )
    ]  # fmt: skip


def _tokens(profile: Profile) -> Finding:
    if not profile.tokens:
        return Finding("unknown tokens", "give --tokenizer, or examine the DATA folder", None)
    fraction = profile.tokens["unknown"] / max(1, profile.tokens["all"])
    remedy = "prepare without --tokenizer, so that a vocabulary of this text is trained"
    if size := profile.trained_vocabulary:
        larger = max(2 * size, SIZES[0][1])
        remedy = f"prepare again with a larger vocabulary: --vocab-size {larger} (now {size:,})"
    return _finding("unknown tokens", fraction, f"{fraction:.3%}", most=0.005, hurts="MLM", remedy=remedy)
