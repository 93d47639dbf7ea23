"""Which source has a record of a release: by annotation file, image folder and, where sources share both, by rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from curation.catalog.locations import ReleaseRows, Where

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
class Kind:
    """What the counts are by: annotation file and first image folder, each None when absent."""

    source: str | None
    folder: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Who has a record: the number of a claim or None; `is_ambiguous` when no rule could tell.

    A router gives the same object for the same outcome, so that counting millions compares no fields.
    """

    claim: int | None
    is_ambiguous: bool
    kind: Kind


class Router:
    """Decides for records, one at a time; for most, what their annotation file and folders say was decided before."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._claims = claims
        depths = [pattern.count("/") + 1 for claim in claims for pattern in claim.rows.folders if pattern is not None]
        self._depth = max(depths, default=1)
        self._groups: dict[tuple[str | None, ...], _Group] = {}
        self._rules = [_Rule(claim.rows.where) if claim.rows.where and not claim.rows.is_rest else None for claim in claims]

    def decide(self, record: Mapping[str, Any]) -> Outcome:
        """Who has the record, and of what kind it is."""
        source = record.get("source")
        if type(source) is not str:
            source = None
        image = first_image(record)
        key = (source, None) if image is None else (source, *image.split("/", self._depth)[:-1])
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._group(source, None if image is None else list(key[1:]))
        return group.outcome if group.outcome is not None else self._by_rules(group, record)

    def _group(self, source: str | None, folders: Sequence[str | None] | None) -> "_Group":
        """What is so for all records of an annotation file and image folders."""
        names = None if folders is None else [str(name) for name in folders]
        shown = None if names is None else "/".join([*names, "x"])
        candidates = tuple(number for number, claim in enumerate(self._claims) if claim.rows.claims(source, shown))
        group = _Group(Kind(source, None if names is None else names[0] if names else ""), candidates)
        if not candidates:
            group.outcome = group.outcome_of(None)
        elif len(candidates) == 1 and self._claims[candidates[0]].rows.where is None:
            group.outcome = group.outcome_of(candidates[0])
        return group

    def _by_rules(self, group: "_Group", record: Mapping[str, Any]) -> Outcome:
        told = _Told(record)
        plain = [number for number in group.candidates if self._claims[number].rows.where is None]
        for number in group.candidates:
            rule = self._rules[number]
            if rule is not None and rule.holds(told):
                return group.outcome_of(number)
            if number in plain:
                return group.outcome_of(number, is_ambiguous=len(plain) > 1)
        rest = [number for number in group.candidates if self._claims[number].rows.is_rest]
        return group.outcome_of(rest[0], is_ambiguous=True) if rest else group.outcome_of(None)


class _Group:
    """Records of the same annotation file and image folders; `outcome` when that decides already."""

    def __init__(self, kind: Kind, candidates: tuple[int, ...]) -> None:
        self.candidates = candidates
        self.outcome: Outcome | None = None
        self._kind = kind
        self._outcomes: dict[tuple[int | None, bool], Outcome] = {}

    def outcome_of(self, claim: int | None, *, is_ambiguous: bool = False) -> Outcome:
        """The one object that says so."""
        key = (claim, is_ambiguous)
        if key not in self._outcomes:
            self._outcomes[key] = Outcome(claim, is_ambiguous, self._kind)
        return self._outcomes[key]


def first_image(record: Mapping[str, Any]) -> str | None:
    """The path of a record's (first) picture without leading `./`, or None for a record that is text only."""
    value = record.get("image")
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str) and item.strip().lower() not in NO_NAMES), None)
    if not isinstance(value, str) or (len(value) < 16 and value.strip().lower() in NO_NAMES):
        return None
    name = value.strip()
    return name if name and not name.startswith((".", "/")) and "//" not in name and "/." not in name else _canonical(name)


def _canonical(name: str) -> str | None:
    return str(PurePosixPath(name)) if name else None


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
