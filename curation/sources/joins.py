"""Second files that belong to a record: sidecars, tables and lists that publishers keep beside their annotations."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from curation.catalog.spec import Join
from curation.catalog.template import Record, Template, Unusable
from curation.errors import RejectReason
from curation.sources.json_records import parse_value
from curation.sources.records import MAX_RECORD_BYTES
from curation.sources.safe_paths import inside


def joined(root: Path, record: Record, joins: Mapping[str, Join]) -> Record:
    """`record` with a field for each join. Raises Unusable when a file or line is missing or cannot be parsed."""
    found: dict[str, Any] = dict(record)
    for name, join in joins.items():
        file = Template.of_name(join.file).render(record)
        path = inside(root, file)
        try:
            found[name] = _content(path, join, record)
        except OSError:
            raise Unusable(RejectReason.MISSING_FIELD, f"join '{name}': no file '{file}'") from None
        except (ValueError, RecursionError) as problem:
            raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"join '{name}', file '{file}': {problem}") from None
    return found


def _content(path: Path, join: Join, record: Record) -> Any:
    if join.format == "lines":
        assert join.line is not None
        lines = _lines(str(path), path.stat().st_mtime_ns)
        number = Template(join.line).render(record)
        if not number.isdigit() or int(number) >= len(lines):
            raise ValueError(f"no line '{number}' among {len(lines)}")
        return lines[int(number)]
    if path.stat().st_size > MAX_RECORD_BYTES:
        raise ValueError(f"larger than {MAX_RECORD_BYTES} bytes")
    data = path.read_bytes()
    if join.format == "json":
        return parse_value(data)
    text = data.decode("utf-8")
    if join.format == "text":
        return text
    limit = (join.columns or 0) - 1
    return [line.split(join.separator, limit) for line in text.splitlines() if line]


@lru_cache(maxsize=4)
def _lines(path: str, _modified_ns: int) -> list[str]:
    # Kept whole: a file that is looked up by line number is asked for once a record.
    return Path(path).read_text(encoding="utf-8").split("\n")
