"""Layout `conversations`: a list of turns with roles (LLaVA, ShareGPT). Fields: turns, role, content, preamble, id.

Role and content keys are `from`/`value` or `role`/`content` unless the row names others. The result alternates, human
first: a leading system turn goes before the first question, as a preamble does; a leading answer without question is dropped
and counted, as the official loader does; other breaks are rejected.

Where a list holds question and answer together (The Cauldron: `texts: [{user, assistant}, ...]`), `fields.question` and
`fields.answer` name their keys, and there are no roles.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import Any

from curation.catalog.spec import Part
from curation.catalog.template import Record, Unusable, scalar_text
from curation.errors import RejectReason
from curation.sources.columns import Adapted, Row, Turns, optional_column, translated, value_column
from curation.tables import ROLES

KNOWN_ROLES = {
    "system": "system",
    "human": "human", "user": "human", "prompter": "human",
    "gpt": "gpt", "assistant": "gpt", "model": "gpt", "chatgpt": "gpt", "bot": "gpt",
}  # fmt: skip
_NO_PREAMBLE = ("", "[]", "{}", "null", "None")  # how publishers write a list of no tools
LEADING_ANSWER = "leading_answer_dropped"


def conversations(records: Sequence[Record], part: Part) -> Adapted:
    """The turns of each record; `preamble` (a system text, a list of tools) goes before the first question."""
    assert isinstance(part.fields.turns, str)
    roles = {**KNOWN_ROLES, **part.roles}
    listed = value_column(records, part.fields.turns)
    preambles = optional_column(records, part.fields.preamble)
    # Whole pairs without a preamble are nearly all of most sources; what else there is goes turn by turn.
    paired = [
        place
        for place, (value, preamble) in enumerate(zip(listed, preambles, strict=True))
        if type(value) is list and value and not len(value) % 2 and not preamble
    ]
    is_plain = part.fields.question is None and not part.values
    regular = _regular_rows([listed[place] for place in paired], roles, part) if is_plain else None
    rows: dict[int, Row] = {} if regular is None else dict(zip(paired, regular, strict=True))
    mended: list[int] = []
    for place, (value, preamble) in enumerate(zip(listed, preambles, strict=True)):
        if place not in rows:
            rows[place], is_mended = _row(value, preamble, roles, part)
            if is_mended:
                mended.append(place)
    return Adapted([rows[place] for place in range(len(listed))], {LEADING_ANSWER: mended} if mended else {})


def _regular_rows(listed: Sequence[Sequence[Any]], roles: Mapping[str, str], part: Part) -> list[Turns] | None:
    """The texts of lists of even length in which every turn is as it should be; None when any turn is not.

    Lists of even length that alternate, human first, alternate when joined, so all are checked at once.
    """
    turns = list(chain.from_iterable(listed))
    if not set(map(type, turns)) <= {dict}:
        return None
    keys = [part.fields.role or _key(turns, "from", "role"), part.fields.content or _key(turns, "value", "content")]
    try:
        said_by, texts = (list(map(itemgetter(key), turns)) for key in keys)
    except KeyError:
        return None
    if not set(map(type, chain(said_by, texts))) <= {str}:
        return None
    if any({roles.get(name) for name in set(said_by[number::2])} - {role} for number, role in enumerate(ROLES)):
        return None
    return [texts[start:stop] for start, stop in pairwise(accumulate(map(len, listed), initial=0))]


def _key(turns: Sequence[Mapping[str, Any]], first: str, second: str) -> str:
    """The key that all turns use: `first` where any has it, as a turn that has both means the first."""
    return first if any(first in turn for turn in turns) else second


def _row(value: Any, preamble: str, roles: Mapping[str, str], part: Part) -> tuple[Row, bool]:
    """The turns, and whether a leading answer was dropped from them."""
    if value is None:
        return Unusable(RejectReason.MISSING_FIELD, f"field '{part.fields.turns}' is absent or null"), False
    if not isinstance(value, list):
        return Unusable(RejectReason.UNSUPPORTED_VALUE, f"turns are a {type(value).__name__}, expected a list"), False
    try:
        said = _paired(value, part) if part.fields.question else [_turn(turn, roles, part) for turn in value]
    except Unusable as problem:
        return problem, False
    if said and said[0][0] == "system":
        preamble = f"{preamble}\n\n{said[0][1]}".strip()
        said = said[1:]
    has_leading_answer = bool(said) and said[0][0] == "gpt"
    row = _alternating(said[1:] if has_leading_answer else said, preamble, part)
    return row, has_leading_answer and not isinstance(row, Unusable)


def _alternating(said: Sequence[tuple[str, str]], preamble: str, part: Part) -> Row:
    if not said:
        return Unusable(RejectReason.EMPTY_QUESTION, "the conversation has no turns")
    for number, (role, _) in enumerate(said):
        if role != ROLES[number % 2]:
            detail = f"turn {number} is by {role} where {ROLES[number % 2]} was expected; roles must alternate"
            return Unusable(RejectReason.UNSUPPORTED_VALUE, detail)
    if len(said) % 2:
        return Unusable(RejectReason.EMPTY_ANSWER, "the last question has no answer")
    texts = [text for _, text in said]
    names = part.values.get("answer")
    if names is not None:
        answers = translated(texts[1::2], names)
        if isinstance(answers, Unusable):
            return answers
        texts[1::2] = answers
    if preamble.strip() not in _NO_PREAMBLE:
        texts[0] = f"{preamble.strip()}\n\n{texts[0]}"
    return texts


def _paired(value: Sequence[Any], part: Part) -> list[tuple[str, str]]:
    """Turns from items that hold a question and its answer. Raises Unusable for one that lacks either."""
    said: list[tuple[str, str]] = []
    for pair in value:
        if not isinstance(pair, Mapping):
            raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"a turn is a {type(pair).__name__}, expected a mapping")
        for role, key in zip(ROLES, (part.fields.question, part.fields.answer), strict=True):
            if pair.get(key) is None:
                raise Unusable(RejectReason.MISSING_FIELD, f"a turn has no '{key}'")
            said.append((role, scalar_text(pair[key])))
    return said


def _turn(turn: Any, roles: Mapping[str, str], part: Part) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"a turn is a {type(turn).__name__}, expected a mapping")
    role_key = part.fields.role or ("from" if "from" in turn else "role")
    content_key = part.fields.content or ("value" if "value" in turn else "content")
    for key in (role_key, content_key):
        if turn.get(key) is None:
            raise Unusable(RejectReason.MISSING_FIELD, f"a turn has no '{key}'")
    role = roles.get(str(turn[role_key]))
    if role is None:
        detail = f"role '{str(turn[role_key])[:40]}' is none of {', '.join(sorted(roles))}; add it to `roles`"
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, detail)
    return role, scalar_text(turn[content_key])
