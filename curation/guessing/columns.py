"""The fields of some records as columns: which paths there are, and what their values look like."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.catalog.template import Path, Record, TemplateError
from curation.guessing.words import plain_name

MOST = 0.8
"""The share of values that must be of a kind, for a column to be taken for one of that kind."""
_MAX_PATHS = 200
_FILE_FIELDS = ("_file", "_dir", "_stem", "_members", "_num_pictures")
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class Column:
    """The values at `path` in each record, None where absent."""

    path: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The last key of the path, plainly written."""
        return plain_name(Path.parse(self.path).keys[-1])

    @property
    def given(self) -> list[Any]:
        """Values that are there and not blank."""
        return [value for value in self.values if value is not None and not (isinstance(value, str) and not value.strip())]

    @property
    def share_given(self) -> float:
        """The share of records that have a value."""
        return len(self.given) / len(self.values) if self.values else 0.0

    def of(self, *kinds: type) -> list[Any]:
        """The given values of one of `kinds`."""
        return [value for value in self.given if isinstance(value, kinds)]

    def is_mostly(self, *kinds: type) -> bool:
        """Whether there are values, nearly all of one of `kinds`: real data has a few others."""
        return bool(self.given) and len(self.of(*kinds)) >= MOST * len(self.given)

    @property
    def is_scalar(self) -> bool:
        """Whether values are texts, numbers or truth values."""
        return self.is_mostly(*_SCALARS)

    @property
    def share_asking(self) -> float:
        """The share of values that end as questions do."""
        asking = sum(value.rstrip().endswith(("?", '?"', "？")) for value in self.of(str))
        return asking / len(self.given) if self.given else 0.0


def columns_of(records: Sequence[Record]) -> list[Column]:
    """Columns of top-level fields, and of those one level below mappings and lists that stand for records."""
    paths: dict[str, None] = {}
    for record in records:
        paths.update(dict.fromkeys(_paths(record)))
        if len(paths) > _MAX_PATHS:
            break
    return [_column(path, records) for path in list(paths)[:_MAX_PATHS]]


def _column(text: str, records: Sequence[Record]) -> Column:
    path = Path.parse(text)
    return Column(text, tuple(path.get(record) for record in records))


def _paths(record: Record) -> Iterator[str]:
    for key, value in record.items():
        if key in _FILE_FIELDS or (step := _step(key)) is None:
            continue
        if key == "_value" and isinstance(value, list):
            yield from (f"_value.{number}" for number in range(len(value)))
            continue
        yield step
        if isinstance(value, Mapping):
            yield from (f"{step}.{below}" for key_below in value if (below := _step(key_below)) is not None)


def _step(key: object) -> str | None:
    try:
        return Path.quoted(str(key))
    except TemplateError:
        return None


def named(columns: Sequence[Column], names: Sequence[str], *, least: float = 0.5) -> list[Column]:
    """Columns with one of `names`, in the order of the names, top-level ones first, that enough records have."""
    found = [column for column in columns if column.name in names and column.share_given >= least]
    found = [column for column in found if len(column.name) > 1 or "." not in column.path]
    return sorted(found, key=lambda column: (names.index(column.name), column.path.count(".")))
