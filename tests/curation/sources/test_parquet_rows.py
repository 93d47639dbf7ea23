from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RejectReason
from curation.sources import parquet_rows
from curation.sources.parquet_rows import row_groups
from curation.sources.records import LostSpan, RowGroupSpan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, pa.schema({"q": pa.string(), "tags": pa.list_(pa.int64())})) as writer:
        for rows in (2, 5, 3):
            writer.write_table(pa.table({"q": ["why?" * 20 * rows] * rows, "tags": [[1, 2, 3]] * rows}, schema=writer.schema))
    return path


def test_a_span_a_row_group_with_its_first_row(file: Path):
    spans = row_groups(file, "rows.parquet")
    assert [(span.group, span.first_position) for span in spans if isinstance(span, RowGroupSpan)] == [(0, 0), (1, 2), (2, 7)]


@pytest.mark.parametrize(("limit", "most"), [("MAX_GROUP_ROWS", 4), ("MAX_GROUP_BYTES", 1_000)])
def test_a_row_group_too_large_to_be_held_is_lost_alone(file: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int):
    monkeypatch.setattr(parquet_rows, limit, most)
    first, lost, last = row_groups(file, "rows.parquet")
    assert isinstance(first, RowGroupSpan)
    assert isinstance(last, RowGroupSpan)
    assert isinstance(lost, LostSpan)
    assert lost.reason == RejectReason.UNREADABLE_FILE
    assert "row group 1 cannot be read: it states 5 rows and " in lost.detail
    assert "smaller row groups" in lost.detail
