"""Turns a docstring into plain prose: sentences without markup, code, tables and signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

LONGEST_OPEN_END = 12
"""Characters at the end of a sentence that show whether it was cut off."""
SHORTEST_DOCSTRING = 40
"""Characters under which a docstring says nothing ("Initialize self.")."""

_CODE_DIRECTIVES = (
    r"code|code-block|codeblock|sourcecode|math|plot|doctest|testcode|testoutput|testsetup|autosummary|automodule|"
    r"autofunction|autoclass|table|list-table|csv-table|figure|image|literalinclude|include|toctree|ipython|highlight|"
    r"only|raw|index|currentmodule|module|function|method|class|data|attribute|seealso|versionadded|versionchanged"
)
_DIRECTIVE = re.compile(r"\s*\.\. (?:([\w-]+)::|\[|_|\|)")
_CODE_DIRECTIVE = re.compile(rf"(?:{_CODE_DIRECTIVES})$")
_DROPPED_SECTION = re.compile(r"\s*(?:Examples?|References?|See [Aa]lso|Shapes?|Inputs?|Outputs?|Usage)\s*:{0,2}$")
_RULE = re.compile(r"\s*([-=~^*+#\"'`.])\1{2,}\s*$|\s*[+|].*[+|]\s*$|\s*=+(?:\s+=+)+\s*$")
_SECTION_TITLE = re.compile(r"\s*[A-Z][\w ]{0,40}:{0,2}$")
_MARKER = re.compile(r"^\s*(?:[-*•+]|\(?\d{1,2}[.)]|#\.)\s+")
_MARKER_SIGNS = frozenset("-*•+(#")
_FIELD_SIGNS = frozenset(":@")
_FIELD = re.compile(r"^\s*[:@](?:param|type|returns?|rtype|raises?|keyword|ivar|var|cvar|yields?)\b[^:]*:\s*")
_ARGUMENT = re.compile(r"^\s*\*{0,2}[\w.*`]+(?: \([^)]*\))?: +")
_TYPED_NAME = re.compile(r"^\s*[\w.*`, ]+ : .*[^.]$|^\s*\*{0,2}[\w.`]+(?: \([^)]*\))?:?$")
_FENCES = ("```", "~~~")
_RULE_SIGNS = frozenset("-=~^*+#\"'`.|")
"""What a rule, or the row of a table, begins with."""

_MARKUP = (
    (":`", re.compile(r":(?:[\w+-]+:)*(?:math):`[^`]*`"), "\\\\"),
    (":`", re.compile(r":(?:[\w+-]+:)+`~(?:[^`<]*\.)?([^`<.]*)`"), r"\1"),
    (":`", re.compile(r":(?:[\w+-]+:)+`!?([^`<]*?)\s*(?:<[^`>]*>)?`"), r"\1"),
    ("``", re.compile(r"``([^`]*)``"), r"\1"),
    ("<", re.compile(r"`([^`<]*?)\s*<[^`>]*>`_{0,2}"), r"\1"),
    ("`", re.compile(r"`([^`]*)`_{0,2}"), r"\1"),
    ("](", re.compile(r"\[([^\]]*)\]\((?:https?:)[^)]*\)"), r"\1"),
    ("]_", re.compile(r"\s*\[[\w#*]+\]_"), ""),
    ("*", re.compile(r"(?<![\w*])\*{1,2}([^\s*](?:[^*]*[^\s*])?)\*{1,2}(?![\w*])"), r"\1"),
    ("|", re.compile(r"\|(\w+)\|_?"), r"\1"),
)
"""What each is found by at a glance, its pattern, and what takes its place."""
_MARKUP_SIGN = re.compile(r"[`*|\[]")
_SPACE_BEFORE_MARK = re.compile(r" +([.,;:!?])(?= |$)")
_SENTENCE_END = re.compile(r"(?<=[.!?:])[\"')]?\s+(?=[\"'(]?[A-Z])")
_NO_LETTER = re.compile(r"[^A-Za-z ,'-]")
_CODE = re.compile(r"[\\{}|=<>$^~]|\w\[|\w\([^)]|->|--|https?:|\.\.|: :|\w:\w| : |(?:^|\s)[_#@%&*+/]")
_CODE_SIGN = re.compile(r"_+|[@~^#%&*/+\[\]]|\w\(|\.\w")
_SIGNS_OF_CODE = frozenset("\\{}|=<>$^~[](:_#@%&*+/")
_FUNCTION_WORD = re.compile(
    r"\b(?:the|an?|of|to|in|is|are|be|if|for|and|or|with|this|that|from|by|on|as|it|not|no|all|any|at|than|which)\b"
)
_LEFT_OPEN = re.compile(
    r"\b(?:the|an?|of|to|in|is|are|be|if|for|and|or|with|from|by|on|as|at|than|which|where|when|that|e\.g|i\.e)[.:]?$"
)


def prose_of(docstring: str) -> list[str]:
    """Return the paragraphs of prose in a docstring, each on one line; a docstring of code alone has none."""
    if len(docstring) < SHORTEST_DOCSTRING:
        return []
    paragraphs = (_kept_sentences(_without_markup(block)) for block in _blocks(inspect.cleandoc(docstring)))
    return [paragraph for paragraph in paragraphs if paragraph]


def _blocks(text: str) -> Iterator[str]:
    """Yield the paragraphs and list items of a docstring, each on one line, without code, tables and headings."""
    block: list[str] = []
    for line in _prose_lines(text):
        starts_item, words = _item(line) if line else (False, "")
        if block and (not line or starts_item):
            yield " ".join(block)
            block = []
        if line:
            block.append(words)
    if block:
        yield " ".join(block)


def _item(line: str) -> tuple[bool, str]:
    """Return whether a line begins a list item or a field, and return it without its marker or the field's name."""
    words = line.strip()
    first = words[:1]
    marker = _MARKER.match(line) if first in _MARKER_SIGNS or first.isdigit() else None
    starts_item = marker is not None or (first in _FIELD_SIGNS and _FIELD.match(line) is not None)
    if marker is not None:
        words = line[marker.end() :].strip()
    if words[:1] in _FIELD_SIGNS:
        words = _FIELD.sub("", words).strip()
    return starts_item, words


def _prose_lines(text: str) -> Iterator[str]:
    """Yield the lines outside of code and tables; an empty line ends a paragraph."""
    code_indent: int | None = None
    in_doctest = in_fence = False
    lines = [line.rstrip() for line in text.split("\n")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line:  # in two lines of five; the same as below, at once
            in_doctest = False
            yield ""
            continue
        text_of_line = line.lstrip()
        indent = len(line) - len(text_of_line)
        fence = text_of_line.startswith(_FENCES)
        if fence:
            in_fence = not in_fence
        if code_indent is not None and indent <= code_indent:
            code_indent = None
        in_doctest = in_doctest or text_of_line.startswith((">>>", "... ", "$ ", "In ["))
        if in_fence or in_doctest or code_indent is not None or fence or _is_rule(line):
            yield ""
        elif _is_heading(line, following):
            code_indent = _heading_hides(line, following, indent)
            yield ""
        elif line.endswith("::"):
            code_indent = indent
            yield line[:-1]
        elif _indent(following) > indent and _TYPED_NAME.match(line):
            yield ""
        elif ": " in line and (argument := _ARGUMENT.match(line)) is not None:
            yield ""
            yield line[argument.end() :]
        else:
            yield line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_rule(line: str) -> bool:
    """Return whether a line is a rule or the edge of a table; most lines begin with a letter, and are not."""
    text = line.lstrip()
    return bool(text) and text[0] in _RULE_SIGNS and _RULE.match(line) is not None


def _is_heading(line: str, following: str) -> bool:
    """Return whether a line is a directive, a title above a rule, or a section's name such as "Args:" or "Examples"."""
    if ".. " in line and _DIRECTIVE.match(line):
        return True
    if _is_rule(following) and len(following.strip()) >= 3:
        return True
    if not line.lstrip()[:1].isupper():
        return False
    return bool(_DROPPED_SECTION.fullmatch(line) or (line.endswith(":") and _SECTION_TITLE.fullmatch(line)))


def _heading_hides(line: str, following: str, indent: int) -> int | None:
    """Return the indent beyond which lines under a heading are no prose, or None where they are."""
    directive = _DIRECTIVE.match(line)
    if directive is not None:
        name = directive.group(1)
        return indent if name is None or _CODE_DIRECTIVE.match(name) else None
    return indent if _DROPPED_SECTION.fullmatch(line) else None


def _without_markup(text: str) -> str:
    """Return a paragraph with its rst and Markdown markup reduced to the words it marks."""
    if _MARKUP_SIGN.search(text):
        for sign, pattern, replacement in _MARKUP:
            if sign in text:
                text = pattern.sub(replacement, text)
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))


def _kept_sentences(paragraph: str) -> str:
    """Return the paragraph with only its sentences of prose; it begins with a capital, a phrase gets its full stop."""
    first = paragraph.split(" ", 1)[0]
    if first.isalpha() and first.islower() and not paragraph.endswith(":"):
        paragraph = first.capitalize() + paragraph[len(first) :]
    if paragraph and (paragraph[-1].isalnum() or paragraph[-1] == ")"):
        paragraph += "."
    return " ".join(sentence for sentence in _SENTENCE_END.split(paragraph) if _is_prose(sentence))


def _is_prose(sentence: str) -> bool:
    """Return whether a sentence reads as English: a capital, an end, words that only sentences have, few signs."""
    words = sentence.count(" ") + 1
    return (
        3 <= words <= 80
        and (sentence[0].isupper() or sentence[0] == '"')
        and sentence[-1] in ".!?:"
        and (" the " in sentence or _FUNCTION_WORD.search(sentence) is not None)
        and len(signs := _NO_LETTER.findall(sentence)) <= 0.1 * len(sentence)
        and (_is_plain(sentence, signs) or _has_little_code(sentence, words))
        and _LEFT_OPEN.search(sentence, max(0, len(sentence) - LONGEST_OPEN_END)) is None
    )


def _is_plain(sentence: str, signs: list[str]) -> bool:
    """Return whether a sentence has nothing that `_CODE` or `_CODE_SIGN` finds; `signs` are its signs and digits."""
    return _SIGNS_OF_CODE.isdisjoint(signs) and "--" not in sentence and "." not in sentence[:-1]


def _has_little_code(sentence: str, words: int) -> bool:
    return _CODE.search(sentence) is None and len(_CODE_SIGN.findall(sentence)) <= 1 + words // 10
