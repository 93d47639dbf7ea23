"""Cutting text from data down to what a page can show, and making it fit to be written."""

import re
from dataclasses import dataclass

from curation.shard_format import IMAGE_MARKER

HEAD_CHARS = 420
HEAD_LINES = 14
REST_CHARS = 4_000
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text in two parts, `head` and what can be unfolded; both are split where an image marker stood.

    `num_cut` counts the characters behind them that are not shown at all.
    """

    head: tuple[str, ...]
    rest: tuple[str, ...]
    num_cut: int


def printable(text: str) -> str:
    """`text` with line ends as `\\n`, and control characters and lone surrogates replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def cut(text: str, limit: int) -> str:
    """`text`, or its first `limit` characters with an ellipsis."""
    shown = printable(text)
    return shown if len(shown) <= limit else f"{shown[:limit].rstrip()}…"


def excerpt(text: str) -> Excerpt:
    """`text` cut for a page."""
    shown = printable(text).strip()
    lines = shown.split("\n", HEAD_LINES)
    limit = HEAD_CHARS if len(lines) <= HEAD_LINES else min(HEAD_CHARS, len(shown) - len(lines[-1]) - 1)
    if len(shown) <= limit * 5 // 4:
        return Excerpt(_pieces(shown), (), 0)
    end = max(shown.rfind(" ", limit // 2, limit + 1), shown.rfind("\n", limit // 2, limit + 1))
    end = end if end > 0 else limit
    rest = shown[end : end + REST_CHARS].strip("\n")
    return Excerpt(_pieces(shown[:end]), _pieces(rest), max(0, len(shown) - end - REST_CHARS))


def _pieces(text: str) -> tuple[str, ...]:
    """The text between image markers; line ends around a marker go, since it is shown as a chip."""
    parts = text.split(IMAGE_MARKER)
    last = len(parts) - 1
    return tuple(
        part if last == 0 else part.strip("\n") if 0 < number < last else part.lstrip("\n") if number else part.rstrip("\n")
        for number, part in enumerate(parts)
    )
