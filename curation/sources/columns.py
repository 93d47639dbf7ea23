"""Columns of text made from batches of records, as a catalog row's fields say.

An adapter sees a batch, not a record: plain fields become columns by one comprehension each, and only rows where something
is missing are looked at one by one, for the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa

from curation.catalog.spec import Text, Value
from curation.catalog.template import Path, Record, Template, Unusable
from curation.errors import RejectReason
from curation.tables import Int64s

Cell = str | Unusable
Turns = list[str]
Row = Turns | Unusable
"""A record's turns, human first and alternating, or why it has none."""


@dataclass(slots=True)
class Adapted:
    """What an adapter makes of a batch: one row a record, in order, and by kind of repair the rows it mended."""

    rows: list[Row]
    repairs: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """The turns of many samples as one Arrow column: `texts` one after another, `counts[i]` of them said in sample i."""

    texts: pa.StringArray
    counts: Int64s

    @classmethod
    def of(cls, turns: Sequence[Turns]) -> "Said":
        """The turns of each sample, given as lists."""
        texts = pa.array(list(chain.from_iterable(turns)), pa.string())
        return cls(texts, np.fromiter(map(len, turns), np.int64, len(turns)))

    @classmethod
    def together(cls, batches: Sequence["Said"]) -> "Said":
        """Several batches as one; there is at least one."""
        if len(batches) == 1:
            return batches[0]
        return cls(pa.concat_arrays([said.texts for said in batches]), np.concatenate([said.counts for said in batches]))

    @property
    def ends(self) -> Int64s:
        """Where each sample's turns begin in `texts`, and where the last one's end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])


def all_usable(rows: Sequence[Row]) -> TypeGuard[Sequence[Turns]]:
    """Whether every row has turns."""
    return set(map(type, rows)) <= {list}


def text_column(records: Sequence[Record], value: Value, names: Mapping[str, str] | None = None) -> list[Cell]:
    """The text of `value` for each record. `names` translates what is found; other texts are then unsupported."""
    if isinstance(value, Text):
        return [value.text] * len(records)
    if isinstance(value, list):
        cells = _first_given(records, [Template(text) for text in value])
    else:
        template = Template(value)
        column = template.column(records)
        cells = column if None not in column else _with_reasons(template, records, column)  # type: ignore[assignment]
    return cells if names is None else [_translate(cell, names) for cell in cells]


def optional_column(records: Sequence[Record], value: Value | None) -> list[str]:
    """Like `text_column`, with empty text where a record has none."""
    if value is None:
        return [""] * len(records)
    cells = text_column(records, value)
    return [cell if type(cell) is str else "" for cell in cells]


def value_column(records: Sequence[Record], text: str) -> list[Any]:
    """The untouched values at a field path, None where absent."""
    path = Path.parse(text)
    if len(path.keys) == 1:
        return [record.get(path.keys[0]) for record in records]
    return [path.get(record) for record in records]


def single_turns(questions: Sequence[Cell], answers: Sequence[Cell]) -> list[Row]:
    """Rows of one question and one answer; a cell that is unusable makes its row so."""
    if set(map(type, questions)) <= {str} and set(map(type, answers)) <= {str}:
        return [list(pair) for pair in zip(questions, answers, strict=True)]  # type: ignore[arg-type]
    return [
        [question, answer]
        if isinstance(question, str) and isinstance(answer, str)
        else (question if isinstance(question, Unusable) else _unusable(answer))
        for question, answer in zip(questions, answers, strict=True)
    ]


def _unusable(cell: Cell) -> Unusable:
    assert isinstance(cell, Unusable)
    return cell


def _with_reasons(template: Template, records: Sequence[Record], column: Sequence[str | None]) -> list[Cell]:
    return [cell if cell is not None else _reason(template, record) for record, cell in zip(records, column, strict=True)]


def _reason(template: Template, record: Record) -> Cell:
    try:
        return template.render(record)
    except Unusable as problem:
        return problem


def _first_given(records: Sequence[Record], templates: Sequence[Template]) -> list[Cell]:
    """The first alternative that is there and not blank; where all are blank, blank; where all fail, the last reason."""
    cells: list[Cell] = [_reason(templates[0], record) for record in records]
    for template in templates[1:]:
        for number, cell in enumerate(cells):
            if isinstance(cell, Unusable) or not cell.strip():
                following = _reason(template, records[number])
                if isinstance(following, str):
                    cells[number] = following
    return cells


def translated(texts: Sequence[str], names: Mapping[str, str]) -> list[str] | Unusable:
    """All of `texts` by their `names`, or why one of them has none."""
    cells = [_translate(text, names) for text in texts]
    return next((cell for cell in cells if isinstance(cell, Unusable)), [cell for cell in cells if isinstance(cell, str)])


def _translate(cell: Cell, names: Mapping[str, str]) -> Cell:
    if isinstance(cell, Unusable):
        return cell
    if cell not in names:
        valid = ", ".join(sorted(names))
        return Unusable(RejectReason.UNSUPPORTED_VALUE, f"found '{cell[:80]}' where one of {valid} was expected")
    return names[cell]
