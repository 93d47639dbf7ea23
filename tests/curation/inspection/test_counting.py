from pathlib import Path

import pytest

from curation.catalog.spec import Catalog
from curation.inspection.counting import count_records
from curation.storage.store import Store
from curation.upstream.inputs import find_records
from tests.support.upstream import SOURCES, ingest, part, read_all, write_files


@pytest.mark.parametrize("name", SOURCES)
def test_counts_are_those_of_ingestion(world: Catalog, store: Store, name: str):
    source = world.source(name)
    root, files = find_records(world, source, source.parts[0])
    assert count_records(root, files, source.parts[0]) == ingest(world, name, store).manifest["counts"]["records"]


@pytest.mark.parametrize(
    ("text", "reader"),
    [
        ("", {}),
        ("\n\n", {}),
        ('{"a": 1}\n\n{"a"\n{"b": 2}\n', {}),
        ('\ufeff[{"a": 1}, {"b": [1, 2]},\n {"c": "],"}]', {}),
        ('[{"a": 1}, {"b": ', {}),
        ('{"k": {"a": 1},\n "l": {"a": 1}}', {}),
        ('{"a": 1}', {"records": "one"}),
        ("q\ta\n1\t2\n\n3\r\n", {"format": "delimited", "header": True}),
        ("1\t2\n\r\n3\r\n", {"format": "delimited", "columns": ["q", "a"]}),
        ('q,a\n"1\n2",3\n', {"format": "delimited", "header": True, "quoting": True, "separator": ","}),
        ("no parquet", {"format": "parquet"}),
        ("no tar", {"format": "webdataset"}),
    ],
)
def test_every_record_counts_whether_it_can_be_read_or_not(tmp_path: Path, text: str, reader: dict):
    of = part(reader=reader)
    write_files(tmp_path, {"data": text})
    batch = read_all(tmp_path, "data", of)
    assert count_records(tmp_path, ["data"], of) == len(batch.records) + len(batch.rejects)


def test_too_much_text_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.inspection.counting.MAX_TEXT_BYTES", 10)
    write_files(tmp_path, {"data": '{"a": 1, "b": 2}'})
    assert count_records(tmp_path, ["data"], part()) is None
    assert count_records(tmp_path, ["data"], part(reader={"records": "one"})) == 1
