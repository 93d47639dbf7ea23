import json
import shutil

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.releases import numbered_samples, write_release
from training.errors import StreamError
from training.index import open_release
from training.storage import Storage
from training.stream import ShardStream


@pytest.fixture
def copy(release, tmp_path):
    return shutil.copytree(release, tmp_path / "copy")


def read_row(release, row):
    path = release.shard_path(int(release.shard[row]))
    return release.files.read_range(path, int(release.offsets[row]), int(release.num_bytes[row]))


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_index_holds_the_place_of_every_row(release):
    opened = open_release(release)
    assert (opened.num_samples, len(opened.shards), opened.name, opened.fingerprint) == (103, 11, "tiny", "0123abcd")
    assert b'"id":"s000057"' in read_row(opened, 57)


def test_latest_names_the_release_to_take(release, tmp_path):
    shutil.copytree(release, tmp_path / "tiny" / "0123abcd")
    (tmp_path / "tiny" / "latest.json").write_text('{"fingerprint": "0123abcd"}')
    assert open_release(tmp_path / "tiny").fingerprint == "0123abcd"


@pytest.mark.parametrize("fingerprint", ["../elsewhere", "", None, "gone"])
def test_latest_must_name_a_folder_beside_it(tmp_path, fingerprint):
    (tmp_path / "latest.json").write_text(json.dumps({"fingerprint": fingerprint}))
    with pytest.raises(StreamError, match=r"latest.json"):
        open_release(tmp_path)


def test_a_folder_without_release_says_what_to_give(tmp_path):
    with pytest.raises(StreamError, match="give the path that `curate build` printed"):
        open_release(tmp_path)


def test_missing_shard_is_named(copy):
    (copy / "shards" / "tiny-000003.tar").unlink()
    with pytest.raises(StreamError, match=r"'tiny-000003.tar'.* is missing"):
        open_release(copy)


def test_truncated_shard_is_named_with_both_sizes(copy):
    path = copy / "shards" / "tiny-000004.tar"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StreamError, match=f"'tiny-000004.tar'.*{size - 100:,} bytes.*{size:,}"):
        open_release(copy)


def test_unknown_schema_version_is_refused(copy):
    edit_manifest(copy, schema_version=99)
    with pytest.raises(StreamError, match="schema version 99; this reader knows 1"):
        open_release(copy)


def test_shard_names_may_not_leave_the_folder(copy):
    edit_manifest(copy, shards=[{"name": "../x.tar", "num_samples": 1, "num_bytes": 1, "sha256": ""}])
    with pytest.raises(StreamError, match="plain file name"):
        open_release(copy)


def test_index_of_another_build_is_refused(copy):
    table = pq.read_table(copy / "index.parquet")
    pq.write_table(table.slice(0, 100), copy / "index.parquet")
    with pytest.raises(StreamError, match="100 rows, its manifest says 103"):
        open_release(copy)


def test_index_past_the_end_of_a_shard_is_refused(copy):
    rows = pq.read_table(copy / "index.parquet").to_pylist()
    rows[-1]["num_bytes"] = 10**6
    pq.write_table(type(pq.read_table(copy / "index.parquet")).from_pylist(rows), copy / "index.parquet")
    with pytest.raises(StreamError, match=r"tiny-000010.tar"):
        open_release(copy)


def test_index_without_a_column_is_refused(copy):
    table = pq.read_table(copy / "index.parquet")
    pq.write_table(table.drop_columns(["offset_bytes"]), copy / "index.parquet")
    with pytest.raises(StreamError, match="lacks offset_bytes"):
        open_release(copy)


@pytest.mark.parametrize("content", ["not json", "[]", '{"schema_version": 1}'])
def test_unusable_manifest_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(StreamError, match="manifest"):
        open_release(copy)


def test_a_url_is_read_by_ranges(release, tmp_path):
    files = fsspec.filesystem("memory")
    files.put(str(release), "/bucket/tiny", recursive=True)
    opened = open_release("memory://bucket/tiny", storage=Storage(cache=tmp_path))
    assert read_row(opened, 102) == read_row(open_release(release), 102)
    files.rm("/bucket", recursive=True)


def test_an_empty_release_is_refused(tmp_path):
    folder = write_release(tmp_path / "r", numbered_samples(1))
    table = pq.read_table(folder / "index.parquet")
    pq.write_table(table.slice(0, 0), folder / "index.parquet")
    edit_manifest(folder, num_samples=0, shards=[])
    with pytest.raises(StreamError, match="holds no sample"):
        open_release(folder)


def read_all(folder, **options):
    return [sample["id"] for sample in ShardStream(folder, **options)]


def test_a_shard_in_the_place_of_another_is_found(copy):
    """Two shards of the same size, swapped: no size or offset tells, the first sample does."""
    first, second = copy / "shards" / "tiny-000002.tar", copy / "shards" / "tiny-000003.tar"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(
        StreamError, match=r"'tiny-00000[23].tar'.*the index has 's0000[23]0.json' there, the shard 's0000[32]0.json'"
    ):
        read_all(copy)


def test_an_index_out_of_step_inside_a_shard_is_found(copy):
    table = pq.read_table(copy / "index.parquet")
    offsets = table["offset_bytes"].to_pylist()
    offsets[45] += 512
    column = table.schema.get_field_index("offset_bytes")
    pq.write_table(table.set_column(column, "offset_bytes", pa.array(offsets)), copy / "index.parquet")
    with pytest.raises(StreamError, match=r"'tiny-000004.tar' of release 'tiny' at byte"):
        read_all(copy)


@pytest.mark.parametrize(("column", "value"), [("offset_bytes", -512), ("num_bytes", 2**40), ("shard", 2**33)])
def test_impossible_places_are_refused(copy, column, value):
    table = pq.read_table(copy / "index.parquet")
    values = table[column].to_pylist()
    values[50] = value
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, pa.array(values)), copy / "index.parquet")
    with pytest.raises(StreamError, match=f"column '{column}' runs from"):
        open_release(copy)


def test_an_index_that_jumps_between_shards_is_refused(copy):
    table = pq.read_table(copy / "index.parquet")
    rows = list(range(103))
    rows[5], rows[55] = rows[55], rows[5]
    pq.write_table(table.take(rows), copy / "index.parquet")
    with pytest.raises(StreamError, match="does not go through the manifest's 11 shards in order"):
        open_release(copy)


def test_nulls_in_the_index_are_refused(copy):
    table = pq.read_table(copy / "index.parquet")
    values = pa.array([None, *table["num_bytes"].to_pylist()[1:]])
    pq.write_table(table.set_column(table.schema.get_field_index("num_bytes"), "num_bytes", values), copy / "index.parquet")
    with pytest.raises(StreamError, match="1 nulls; expected whole numbers"):
        open_release(copy)
