"""Which layout records have, and which of their fields mean what: suggestions in order, to be tried on the records.

Names decide before values do. Every suggestion is the keys of a catalog row's part, without location, reader and images.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curation.guessing.columns import MOST, Column, named
from curation.guessing.words import (
    ANSWER,
    CAPTION,
    IDENTITY,
    INPUT,
    INSTRUCTION,
    OPTIONS,
    OUTPUT,
    PAIRS,
    PREAMBLE,
    QUESTION,
    STATEMENT,
    plain_name,
)
from curation.sources.conversations import KNOWN_ROLES

Suggestion = dict[str, Any]
_TURN_KEYS = (("from", "value"), ("role", "content"))
_MAX_ROLES = 8
_LETTER = re.compile(r"\(?[A-Za-z]\)?\.?")
_OPTION_FIELD = re.compile(r"(?:choice|option|opt|answer)?([a-h]|[0-7])")
_TRUTHS = ({"0", "1"}, {"true", "false"})
_MOST = MOST
_NAMELESS = re.compile(r"column_\d+|_value\.\d+")
_WORDY = 5
"""Words that a nameless column must have in the mean, to be taken for questions."""


def suggest_layouts(columns: Sequence[Column]) -> list[Suggestion]:
    """What the records may be, the likeliest first; empty when no text in them looks like a turn."""
    ways: list[Callable[[Sequence[Column]], list[Suggestion]]] = [
        _conversations, _multiple_choice, _instruction, _statement, _qa, _html_table, _caption, _by_question_mark,
    ]  # fmt: skip
    identity = _identity(columns)
    found: list[Suggestion] = []
    for way in ways:
        for part in way(columns):
            if identity is not None:
                part["fields"] = {"id": identity, **part["fields"]}
            if part not in found:
                found.append(part)
    return found


def _identity(columns: Sequence[Column]) -> str | None:
    """The field whose values name records: unlike each other and short."""
    key = [column for column in columns if column.path == "_key"]
    others = [column for column in columns if column.name.endswith("id") and column.share_given == 1]
    for column in [*named(columns, IDENTITY, least=1.0), *key, *others]:
        texts = [str(value) for value in column.given]
        are_short = bool(texts) and max(map(len, texts)) <= 100
        if column.is_mostly(str, int) and are_short and "." not in column.path and len(set(texts)) >= _MOST * len(texts):
            return column.path
    return None


# --- Conversations ------------------------------------------------------------------------------------------------------


def _conversations(columns: Sequence[Column]) -> list[Suggestion]:
    found: list[Suggestion] = []
    for column in columns:
        conversations = [[turn for turn in value if isinstance(turn, Mapping)] for value in column.of(list)]
        turns = [turn for said in conversations for turn in said]
        if len(turns) < _MOST * sum(len(value) for value in column.of(list)) or not turns or not column.is_mostly(list):
            continue
        fields = _turn_fields(turns)
        if fields is None:
            continue
        part: Suggestion = {"layout": "conversations", "fields": {"turns": column.path, **fields}}
        if "question" not in fields:
            roles = _roles(conversations, fields)
            if roles:
                part["roles"] = roles
            preamble = next((c for c in named(columns, PREAMBLE, least=0.01) if c.is_mostly(str)), None)
            if preamble is not None:
                part["fields"]["preamble"] = preamble.path
        found.append(part)
    return found


def _turn_fields(turns: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The keys of a turn's role and content, nothing for those known anyhow; or of its question and answer."""
    counts = Counter(key for turn in turns for key, value in turn.items() if isinstance(value, str | int | float))
    shared = [key for key, count in counts.items() if count >= _MOST * len(turns)]
    if any(role in shared and content in shared for role, content in _TURN_KEYS):
        return {}
    for question, answer in PAIRS:
        keys = {plain_name(key): key for key in shared}
        if question in keys and answer in keys:
            return {"question": keys[question], "answer": keys[answer]}
    texts = {key: [str(turn.get(key, "")) for turn in turns] for key in shared}
    by_length = sorted(shared, key=lambda key: sum(map(len, texts[key])))
    role = next((key for key in by_length if 2 <= len(set(texts[key])) <= _MAX_ROLES < len(turns)), None)
    return {"role": role, "content": by_length[-1]} if role is not None and role != by_length[-1] else None


def _roles(conversations: Sequence[Sequence[Mapping[str, Any]]], fields: Mapping[str, str]) -> dict[str, str]:
    """Who says what, for roles that are not known: whoever speaks at even places asks."""
    places: dict[str, Counter[int]] = {}
    for turns in conversations:
        names = [str(turn.get(fields.get("role") or ("from" if "from" in turn else "role"))) for turn in turns]
        start = 1 if names and KNOWN_ROLES.get(names[0]) == "system" else 0
        for number, name in enumerate(names[start:]):
            places.setdefault(name, Counter())[number % 2] += 1
    unknown = {name: count for name, count in places.items() if name not in KNOWN_ROLES}
    return {name: ("human" if count[0] >= count[1] else "gpt") for name, count in sorted(unknown.items())}


# --- Questions and answers ----------------------------------------------------------------------------------------------


def _questions(columns: Sequence[Column]) -> list[Column]:
    return [column for column in named(columns, QUESTION) if column.is_mostly(str)]


def _answers(columns: Sequence[Column], besides: Column) -> list[Column]:
    found = [column for column in named(columns, ANSWER) if column.path != besides.path]
    return [column for column in found if column.is_scalar or _holds_lists(column)]


def _holds_lists(column: Column) -> bool:
    lists = [value for value in column.of(list) if value and isinstance(value[0], str | int | float)]
    return len(lists) >= _MOST * len(column.given) > 0


def _answer_path(column: Column) -> str:
    return column.path if column.is_scalar else f"{column.path}.0"


def _multiple_choice(columns: Sequence[Column]) -> list[Suggestion]:
    options, listed = _options(columns)
    found: list[Suggestion] = []
    for question in _questions(columns)[:1] if options else []:
        for answer in _answers(columns, question):
            way = _answer_as(answer, listed)
            if way is None:
                continue
            fields = {"question": question.path, "options": options, "answer": answer.path}
            found.append({"layout": "multiple_choice", "fields": fields, **({} if way == "text" else {"answer_as": way})})
    return found


def _options(columns: Sequence[Column]) -> tuple[str | dict[str, str] | None, list[Any]]:
    """Where options are, and those of each record: a list, a mapping of letters, or fields called by letters."""
    for column in named(columns, OPTIONS, least=0.05):
        if column.is_mostly(list, dict):
            return column.path, [list(v.values()) if isinstance(v, dict) else v for v in column.values]
    lettered = {}
    for column in columns:
        match = _OPTION_FIELD.fullmatch(column.name)
        if match and column.is_scalar and column.path.count(".") == 0:
            letter = match[1].upper() if match[1].isalpha() else chr(ord("A") + int(match[1]))
            lettered[letter] = column
    if "A" not in lettered or "B" not in lettered:
        return None, []
    listed = [list(values) for values in zip(*(column.values for column in lettered.values()), strict=True)]
    return {letter: column.path for letter, column in sorted(lettered.items())}, listed


def _answer_as(answer: Column, listed: Sequence[Any]) -> str | None:
    """How answers name an option in nearly all records that have any."""
    counts: Counter[str] = Counter()
    total = 0
    for value, options in zip(answer.values, listed, strict=True):
        if value is None or not options or isinstance(value, list):
            continue
        total += 1
        text = str(value).strip()
        counts["text"] += text in [str(option).strip() for option in options]
        counts["letter"] += bool(_LETTER.fullmatch(text)) and ord(text.strip("().").upper()) - ord("A") < len(options)
        counts["index"] += text.isascii() and text.isdigit() and int(text) < len(options)
    return next((way for way in ("text", "letter", "index") if total and counts[way] >= _MOST * total), None)


def _instruction(columns: Sequence[Column]) -> list[Suggestion]:
    asked = next((c for c in named(columns, INSTRUCTION) if c.is_mostly(str)), None)
    outputs = [c for c in named(columns, OUTPUT, least=0.01) if c.is_scalar and c.path.count(".") == 0]
    if asked is None or not outputs:
        return []
    output: Any = outputs[0].path if outputs[0].share_given == 1 or len(outputs) == 1 else [c.path for c in outputs]
    fields: dict[str, Any] = {"instruction": asked.path}
    given = next((c for c in columns if c.name in INPUT and all(v is None or isinstance(v, str) for v in c.values)), None)
    if given is not None:
        fields["input"] = given.path
    return [{"layout": "instruction", "fields": {**fields, "output": output}}]


def _statement(columns: Sequence[Column]) -> list[Suggestion]:
    """Statements, or questions, that are told to be true or not."""
    asked = [c for c in (*_questions(columns), *named(columns, STATEMENT)) if c.is_mostly(str)]
    found: list[Suggestion] = []
    for question in asked[:2]:
        for answer in _answers(columns, question):
            texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in answer.of(str, int)]
            truths = next((each for each in _TRUTHS if texts and _share_in(texts, each) >= _MOST), None)
            if truths is None:
                continue
            names = dict(zip(sorted(truths), ("No", "Yes"), strict=True))
            text = question.path if question.share_asking > 0.5 else f"Is this true? {{{question.path}}}"
            fields = {"question": text, "answer": answer.path}
            found.append({"layout": "qa", "fields": fields, "values": {"answer": names}})
    return found


def _share_in(texts: Sequence[str], names: set[str]) -> float:
    return sum(text in names for text in texts) / len(texts)


def _qa(columns: Sequence[Column]) -> list[Suggestion]:
    pairs = [(question, answer) for question in _questions(columns)[:3] for answer in _answers(columns, question)[:3]]
    return [
        {"layout": "qa", "fields": {"question": question.path, "answer": _answer_path(answer)}} for question, answer in pairs
    ]


def _html_table(columns: Sequence[Column]) -> list[Suggestion]:
    """Tables spelt out as HTML tokens (PubTabNet)."""
    fields = {column.path for column in columns}
    found = [path for path in fields if {f"{path}.structure", f"{path}.cells"} <= fields]
    text = {"text": "Transcribe this table as HTML."}
    parts: list[Suggestion] = []
    for path in sorted(found):
        tables = next(column for column in columns if column.path == path).of(dict)
        html = f"{{{path}|table_html}}"
        answer = html if any("<table>" in str(table.get("structure")) for table in tables) else f"<table>{html}</table>"
        parts.append({"layout": "qa", "fields": {"question": text, "answer": answer}})
    return parts


def _caption(columns: Sequence[Column]) -> list[Suggestion]:
    texts = [column for column in named(columns, CAPTION) if column.is_mostly(str)]
    return [{"layout": "caption", "fields": {"caption": column.path}} for column in texts[:2]]


def _by_question_mark(columns: Sequence[Column]) -> list[Suggestion]:
    """Of columns without names, the one that asks, or else the first of several words; what follows it is the answer."""
    texts = [column for column in columns if column.is_scalar and column.path != "_key"]
    if not all(_NAMELESS.fullmatch(column.path) for column in texts):
        return []
    asking = [number for number, column in enumerate(texts) if column.share_asking > 0.5 and column.is_mostly(str)]
    wordy = [number for number, column in enumerate(texts) if _num_words(column) >= _WORDY]
    for number in (*asking[:1], *wordy[:1]):
        if number + 1 < len(texts):
            fields = {"question": texts[number].path, "answer": texts[number + 1].path}
            return [{"layout": "qa", "fields": fields}]
    return []


def _num_words(column: Column) -> float:
    """Words of a usual value, in the mean."""
    texts = column.of(str)
    return sum(len(text.split()) for text in texts) / len(texts) if texts else 0.0
