"""The small language in which a catalog says how text is made from a record's fields.

A value without braces is a field path: `answer`, `html.cells`, `_value.3` (keys and list positions, joined by dots). With
braces it is a template: `{question}\\n{hint?}`. `?` makes a field optional (absent, null or blank text gives nothing), `|name`
applies a filter, `{{` and `}}` are braces. A key with spaces, dots or other signs stands in double quotes: `"Question text"`.
There are no conditions, loops or expressions: nothing from data is executed.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson

from curation.errors import RejectReason

Record = Mapping[str, Any]
_MISSING = object()
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KEY = r'(?:"[^"{}]+"|[^\s{}|?."]+)'
_PATH = re.compile(rf"{_KEY}(?:\.{_KEY})*")
_KEYS = re.compile(_KEY)
_SLOT = re.compile(rf"({_PATH.pattern})(\?)?(?:\|(.*))?")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class TemplateError(ValueError):
    """A template that is not well formed; the message says what is wrong and what is valid."""


class Unusable(Exception):
    """A value that a template cannot turn into text, with the reason a record is rejected for."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Path:
    """A field path such as `html.cells.0`."""

    text: str
    keys: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Path":
        """Raises TemplateError when `text` is no field path."""
        if not _PATH.fullmatch(text):
            raise TemplateError(
                f"'{text}' is no field path; write keys joined by dots, such as 'answer' or 'html.cells.0', and a key that "
                "holds spaces or dots in double quotes"
            )
        return cls(text, tuple(key.strip('"') for key in _KEYS.findall(text)))

    @staticmethod
    def quoted(key: str) -> str:
        """`key` as a step of a path: as it is, or in double quotes. Raises TemplateError when no path can name it."""
        text = key if re.fullmatch(_KEY, key) and not key.startswith('"') else f'"{key}"'
        if not re.fullmatch(_KEY, text):
            raise TemplateError(f"no field path can name {key!r}: it is empty or holds braces or double quotes")
        return text

    def get(self, record: Record) -> Any:
        """The value, or None when any step of the path is absent."""
        value: Any = record
        for key in self.keys:
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value


def _lettered(value: Any) -> str:
    items = [scalar_text(item) for item in _expect_list(value, "lettered")]
    if len(items) > len(LETTERS):
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"filter lettered: {len(items)} items for {len(LETTERS)} letters")
    return "\n".join(f"{LETTERS[number]}. {item}" for number, item in enumerate(items))


def _join(value: Any) -> str:
    return ", ".join(scalar_text(item) for item in _expect_list(value, "join"))


def _concat(value: Any) -> str:
    return "".join(scalar_text(item) for item in _expect_list(value, "concat"))


def _lines(value: Any) -> str:
    rows = _expect_list(value, "lines")
    return "\n".join(scalar_text(row[-1]) if isinstance(row, list) and row else scalar_text(row) for row in rows)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as problem:
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"filter json: {problem}") from None


def _table_html(value: Any) -> str:
    """HTML of a table published as structure tokens plus the tokens of each cell in order (PubTabNet)."""
    try:
        structure = [str(token) for token in value["structure"]["tokens"]]
        cells = ["".join(cell["tokens"]) for cell in value["cells"]]
    except (KeyError, TypeError) as problem:
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"table_html: no structure and cells tokens ({problem})") from None
    remaining = iter(cells)
    return "".join(next(remaining, "") + token if token == "</td>" else token for token in structure)


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "concat": _concat,
    "join": _join,
    "json": _json,
    "lettered": _lettered,
    "lines": _lines,
    "strip": lambda value: scalar_text(value).strip(),
    "table_html": _table_html,
}


def scalar_text(value: Any) -> str:
    """A text, number or truth value as text. Raises Unusable for anything else: lists and mappings need a filter."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(RejectReason.MISSING_FIELD, f"a value is {value}, which stands for none")
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        raise Unusable(RejectReason.MISSING_FIELD, "a value is null")
    raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"a {type(value).__name__} where text was expected")


def _expect_list(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"filter {name}: a {type(value).__name__} where a list was expected")
    return value


@dataclass(frozen=True, slots=True)
class _Slot:
    path: Path
    is_optional: bool
    filter_name: str | None

    def render(self, record: Record) -> str:
        value = self.path.get(record)
        if value is None or (type(value) is float and not math.isfinite(value)):
            if self.is_optional:
                return ""
            raise Unusable(RejectReason.MISSING_FIELD, f"field '{self.path.text}' is absent or null")
        try:
            return FILTERS[self.filter_name](value) if self.filter_name else scalar_text(value)
        except Unusable as problem:
            raise Unusable(problem.reason, f"field '{self.path.text}': {problem.detail}") from None


class Template:
    """A compiled template. Raises TemplateError when `text` is not well formed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = list(_parse(text))
        only = self._parts[0] if len(self._parts) == 1 else None
        self._key = only.path.keys[0] if isinstance(only, _Slot) and _is_plain_key(only) else None

    @classmethod
    def of_name(cls, text: str) -> "Template":
        """A template for a file's name, where text without braces means itself."""
        template = cls.__new__(cls)
        template.text = text
        template._parts = list(_parse(text)) if "{" in text or "}" in text else [text]
        template._key = None
        return template

    def render(self, record: Record) -> str:
        """The text for one record. Raises Unusable when a field is missing or of the wrong kind."""
        return "".join(part if isinstance(part, str) else part.render(record) for part in self._parts)

    def column(self, records: Sequence[Record]) -> list[str | None]:
        """The text for each record; None where `render` raises (call it for the reason)."""
        if self._key is not None:
            try:
                values = list(map(itemgetter(self._key), records))
            except KeyError:
                return [self._try(record) for record in records]
            if set(map(type, values)) <= {str}:
                return values
        return [self._try(record) for record in records]

    def _try(self, record: Record) -> str | None:
        try:
            return self.render(record)
        except Unusable:
            return None


def _is_plain_key(slot: _Slot) -> bool:
    return len(slot.path.keys) == 1 and slot.filter_name is None and not slot.is_optional


def _parse(text: str) -> Sequence[str | _Slot]:
    if "{" not in text and "}" not in text:
        return [_Slot(Path.parse(text), is_optional=False, filter_name=None)]
    parts: list[str | _Slot] = []
    end = 0
    for match in _FIELD.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match.group() in ("{{", "}}"):
            parts.append(match.group()[0])
        elif match.group(1) is None:
            raise TemplateError(
                f"template {text!r}: a single '{match.group()}'; write '{match.group() * 2}' for the sign itself"
            )
        else:
            parts.append(_slot(match.group(1), text))
    parts.append(text[end:])
    return [part for part in parts if part != ""]


def _slot(inside: str, template: str) -> _Slot:
    match = _SLOT.fullmatch(inside)
    if match is None:
        path = Path.parse(inside.partition("|")[0].removesuffix("?"))  # raises, but for signs behind the path
        raise TemplateError(f"template {template!r}: '{inside}' is no field; expected a path such as '{path.text}'")
    name, mark, filter_name = match.groups()
    if filter_name is not None and filter_name not in FILTERS:
        raise TemplateError(f"template {template!r}: unknown filter '{filter_name}'; valid: {', '.join(sorted(FILTERS))}")
    return _Slot(Path.parse(name), is_optional=mark is not None, filter_name=filter_name)
