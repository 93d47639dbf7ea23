"""Whether sources can be had as the catalog says: reachable, at their revision, as many records as expected. Ingests nothing.

Files of this machine are listed and counted; of what lies elsewhere its host is asked for files, size, revision and licence
(`curation/upstream/checks.py`), each release once for all the sources it serves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from curation.catalog.spec import UNKNOWN_LICENSE, Catalog, HubDataset, LocalFiles, Part, ReleaseRows, Row
from curation.errors import CatalogError
from curation.inspection.counting import count_records
from curation.upstream.checks import LocationCheck, check_archives, check_location
from curation.upstream.inputs import find_records


class Reach(StrEnum):
    """Whether a location answers."""

    REACHABLE = "reachable"
    MISSING = "missing"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is at a location. None where it does not tell; `detail` says why it is not there.

    `revision` is the commit that the pinned revision means there, `license` what the publisher states.
    """

    reach: Reach
    detail: str | None = None
    num_files: int | None = None
    num_bytes: int | None = None
    records: int | None = None
    revision: str | None = None
    license: str | None = None


def check_part(catalog: Catalog, row: Row, part: Part, asked: dict[str, LocationCheck]) -> Found:
    """What there is of one part; `asked` remembers what was asked already, by location or name of release."""
    location = part.location
    is_here = isinstance(location, LocalFiles) and location.is_here
    found = _counted(catalog, row, part) if is_here else _asked(catalog, part, asked)
    archives = check_archives(part) if found.reach is Reach.REACHABLE else []
    for archive in archives:
        if archive.problem is not None:
            return Found(Reach.UNREACHABLE, archive.problem)
    added = [found.num_bytes, *(archive.num_bytes for archive in archives)]
    total = None if None in added else sum(size for size in added if size is not None)
    return replace(found, num_bytes=total) if archives and not isinstance(location, HubDataset) else found


def _asked(catalog: Catalog, part: Part, asked: dict[str, LocationCheck]) -> Found:
    location = part.location
    place = f"release {location.release}" if isinstance(location, ReleaseRows) else f"{location} {location.identity}"
    if place not in asked:
        asked[place] = check_location(catalog, location)
    check = asked[place]
    if check.problem is not None:
        return Found(Reach.UNREACHABLE, check.problem)
    # What a release's card states is its own licence, not that of the sources in it.
    stated = None if isinstance(location, ReleaseRows) else check.license
    return Found(Reach.REACHABLE, None, check.num_files, check.num_bytes, None, check.commit, stated)


def _counted(catalog: Catalog, row: Row, part: Part) -> Found:
    try:
        root, files = find_records(catalog, row, part)
        size = sum((root / file).stat().st_size for file in files)
        records = count_records(root, files, part)
    except CatalogError as problem:
        return Found(Reach.MISSING, str(problem).removeprefix(f"source '{row.name}': "))
    except OSError as problem:
        return Found(Reach.MISSING, f"{problem.filename}: {problem.strerror}")
    return Found(Reach.REACHABLE, num_files=len(files), num_bytes=size, records=records)


def check_rows(catalog: Catalog, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One document a row, in order: reach, size, records against expectation, licence, revision."""
    asked: dict[str, LocationCheck] = {}
    return [_document(row, [check_part(catalog, row, part, asked) for part in row.parts]) for row in rows]


def is_wrong(document: Mapping[str, Any]) -> bool:
    """Whether a checked row is at odds with the catalog."""
    return document["state"] in ("missing", "unreachable", "count differs", "licence differs")


def _document(row: Row, found: list[Found]) -> dict[str, Any]:
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
    if any(part.reach is Reach.UNREACHABLE for part in found):
        return "unreachable"
    if records is not None and not row.expected.agrees_with(records):
        return "count differs"
    if stated is not None and row.license not in (UNKNOWN_LICENSE, "") and stated.lower() != row.license.lower():
        return "licence differs"
    return "as expected" if records is not None and row.expected.records is not None else "reachable"
