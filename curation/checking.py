"""Whether sources can be had as the catalog says: reachable, at their revision, as many records as expected. Ingests nothing.

Files of this machine are listed and counted. What lies elsewhere is asked about by the functions in CHECKS, one for each kind
of location; a kind without one is said to be not checked.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from curation.catalog import Catalog, LocalFiles, Part, Row
from curation.counting import count_records
from curation.errors import CatalogError
from curation.inputs import find_records


class Reach(StrEnum):
    """Whether a location answers."""

    REACHABLE = "reachable"
    MISSING = "missing"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is at a location. None where it does not tell; `detail` says why it is not reachable or not checked.

    `revision` is the commit that the pinned revision means there, `license` what the publisher states.
    """

    reach: Reach
    detail: str | None = None
    num_files: int | None = None
    num_bytes: int | None = None
    records: int | None = None
    revision: str | None = None
    license: str | None = None


Check = Callable[[Catalog, Row, Part], Found]


def check_local(catalog: Catalog, row: Row, part: Part) -> Found:
    """Files of this machine: there, how many, how large, and how many records."""
    assert isinstance(part.location, LocalFiles)
    if not part.location.is_here:
        return _not_checked(catalog, row, part)
    try:
        root, files = find_records(catalog, row, part)
        size = sum((root / file).stat().st_size for file in files)
        records = count_records(root, files, part)
    except CatalogError as problem:
        return Found(Reach.MISSING, str(problem).removeprefix(f"source '{row.name}': "))
    except OSError as problem:
        return Found(Reach.MISSING, f"{problem.filename}: {problem.strerror}")
    return Found(Reach.REACHABLE, num_files=len(files), num_bytes=size, records=records)


def _not_checked(_catalog: Catalog, _row: Row, part: Part) -> Found:
    return Found(Reach.NOT_CHECKED, f"{part.location} is elsewhere, and is not asked before it is ingested")


CHECKS: dict[str, Check] = {"LocalFiles": check_local}
"""The check for each kind of location, by the name of its class: `HubDataset`, `HttpFiles` and `ReleaseRows` go here."""


def check_rows(catalog: Catalog, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One document a row, in order: reach, size, records against expectation, licence, revision."""
    return [_document(catalog, row) for row in rows]


def is_wrong(document: Mapping[str, Any]) -> bool:
    """Whether a checked row is at odds with the catalog."""
    return document["state"] in ("missing", "count differs", "licence differs")


def _document(catalog: Catalog, row: Row) -> dict[str, Any]:
    found = [CHECKS.get(type(part.location).__name__, _not_checked)(catalog, row, part) for part in row.parts]
    records = _total([part.records for part in found])
    stated = next((part.license for part in found if part.license is not None), None)
    return {
        "source": row.name,
        "state": _state(row, found, records, stated),
        "license": row.license,
        "license_found": stated,
        "revision": row.revision,
        "revision_found": next((part.revision for part in found if part.revision is not None), None),
        "num_files": _total([part.num_files for part in found]),
        "num_bytes": _total([part.num_bytes for part in found]),
        "records": records,
        "expected": row.expected.records,
        "location": [str(part.location) for part in row.parts],
        "details": [part.detail for part in found if part.detail is not None],
    }


def _total(figures: list[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _state(row: Row, found: list[Found], records: int | None, stated: str | None) -> str:
    if any(part.reach is Reach.MISSING for part in found):
        return "missing"
    if any(part.reach is Reach.NOT_CHECKED for part in found):
        return "not checked"
    if records is not None and not row.expected.agrees_with(records):
        return "count differs"
    if stated is not None and stated.lower() != row.license.lower():
        return "licence differs"
    return "as expected" if records is not None and row.expected.records is not None else "reachable"
