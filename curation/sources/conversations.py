"""Layout `conversations`: a list of turns with roles (LLaVA, ShareGPT). Fields: turns, role, content, preamble, id.

Role and content keys are `from`/`value` or `role`/`content` unless the row names others. The result alternates, human
first: a leading system turn goes before the first question, as a preamble does; a leading answer without question is dropped
and counted, as the official loader does; other breaks are rejected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curation.catalog import Part
from curation.errors import RejectReason
from curation.sources.columns import Adapted, Row, optional_column, value_column
from curation.tables import ROLES
from curation.template import Record, Unusable, scalar_text

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
    adapted = Adapted([])
    for value, preamble in zip(listed, preambles, strict=True):
        adapted.rows.append(_row(value, preamble, roles, part, adapted.repairs))
    return adapted


def _row(value: Any, preamble: str, roles: Mapping[str, str], part: Part, repairs: dict[str, int]) -> Row:
    if value is None:
        return Unusable(RejectReason.MISSING_FIELD, f"field '{part.fields.turns}' is absent or null")
    if not isinstance(value, list):
        return Unusable(RejectReason.UNSUPPORTED_VALUE, f"turns are a {type(value).__name__}, expected a list")
    try:
        said = [_turn(turn, roles, part) for turn in value]
    except Unusable as problem:
        return problem
    if said and said[0][0] == "system":
        preamble = f"{preamble}\n\n{said[0][1]}".strip()
        said = said[1:]
    if said and said[0][0] == "gpt":
        said = said[1:]
        repairs[LEADING_ANSWER] = repairs.get(LEADING_ANSWER, 0) + 1
    if not said:
        return Unusable(RejectReason.EMPTY_QUESTION, "the conversation has no turns")
    for number, (role, _) in enumerate(said):
        if role != ROLES[number % 2]:
            detail = f"turn {number} is by {role} where {ROLES[number % 2]} was expected; roles must alternate"
            return Unusable(RejectReason.UNSUPPORTED_VALUE, detail)
    if len(said) % 2:
        return Unusable(RejectReason.EMPTY_ANSWER, "the last question has no answer")
    texts = [text for _, text in said]
    if preamble.strip() not in _NO_PREAMBLE:
        texts[0] = f"{preamble.strip()}\n\n{texts[0]}"
    return texts


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
