"""Which source has a record of a release: by annotation file, image folder and, where sources share both, by rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from curation.locations import ReleaseRows, Where

NO_NAMES = ("", "none", "nan", "null")
"""What publishers write for no picture, in any case."""
MAX_SEARCHED_CHARS = 20_000
_HUMAN = ("human", "user")


@dataclass(frozen=True, slots=True)
class Claim:
    """The rows of a release that one part of a source is made from; `name` is a folder's name too."""

    name: str
    rows: ReleaseRows


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who has a record: the number of a claim or None; `is_ambiguous` when no rule could tell."""

    claim: int | None
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What the counts are by: annotation file and first image folder, each None when absent."""

    source: str | None
    folder: str | None


class Router:
    """Decides for records, one at a time, with what it decided for their kind before."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._claims = claims
        depths = [pattern.count("/") + 1 for claim in claims for pattern in claim.rows.folders if pattern is not None]
        self._depth = max(depths, default=1)
        self._candidates: dict[tuple[str | None, str | None], tuple[int, ...]] = {}
        self._rules = [_Rule(claim.rows.where) if claim.rows.where and not claim.rows.is_rest else None for claim in claims]

    def decide(self, record: Mapping[str, Any]) -> tuple[Verdict, Kind]:
        """Who has the record, and of what kind it is."""
        value = record.get("source")
        source = value if isinstance(value, str) else None
        image = first_image(record)
        folders = None if image is None else "/".join(image.split("/")[:-1][: self._depth])
        key = (source, folders)
        candidates = self._candidates.get(key)
        if candidates is None:
            shown = None if folders is None else f"{folders}/x" if folders else "x"
            found = (number for number, claim in enumerate(self._claims) if claim.rows.claims(source, shown))
            candidates = self._candidates[key] = tuple(found)
        kind = Kind(source, None if folders is None else folders.split("/", 1)[0])
        if not candidates:
            return Verdict(None), kind
        if len(candidates) == 1 and self._claims[candidates[0]].rows.where is None:
            return Verdict(candidates[0]), kind
        return self._by_rules(candidates, record), kind

    def _by_rules(self, candidates: Sequence[int], record: Mapping[str, Any]) -> Verdict:
        told = _Told(record)
        plain = [number for number in candidates if self._claims[number].rows.where is None]
        for number in candidates:
            rule = self._rules[number]
            if rule is not None and rule.holds(told):
                return Verdict(number)
            if number in plain:
                return Verdict(number, is_ambiguous=len(plain) > 1)
        rest = [number for number in candidates if self._claims[number].rows.is_rest]
        return Verdict(rest[0], is_ambiguous=True) if rest else Verdict(None)


def first_image(record: Mapping[str, Any]) -> str | None:
    """The path of a record's (first) picture without leading `./`, or None for a record that is text only."""
    value = record.get("image")
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str) and item.strip().lower() not in NO_NAMES), None)
    if not isinstance(value, str) or value.strip().lower() in NO_NAMES:
        return None
    return str(PurePosixPath(value.strip()))


class _Told:
    """What rules look at: the first question, the first answer, and how many questions there are."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        turns = record.get("conversations")
        said = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
        questions = [str(turn.get("value", "")) for turn in said if turn.get("from") in _HUMAN]
        answers = [str(turn.get("value", "")) for turn in said if turn.get("from") not in (*_HUMAN, "system")]
        self.question = questions[0][:MAX_SEARCHED_CHARS] if questions else ""
        self.answer = answers[0][:MAX_SEARCHED_CHARS] if answers else ""
        self.num_questions = len(questions)


class _Rule:
    def __init__(self, where: Where) -> None:
        self._question = re.compile(where.question) if where.question else None
        self._answer = re.compile(where.answer) if where.answer else None
        self._num_questions = where.questions

    def holds(self, told: _Told) -> bool:
        """Whether everything that the rule asks for is so."""
        if self._num_questions not in (None, told.num_questions):
            return False
        if self._question and not self._question.search(told.question):
            return False
        return self._answer is None or self._answer.search(told.answer) is not None
