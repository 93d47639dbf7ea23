import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import FetchError
from curation.fetch import hub
from curation.fetch.embedding import with_bytes
from curation.fetch.hub import HubSplit, fetch_split, repository_files, resolved
from curation.inspection.trial import try_row
from curation.runtime.progress import LineReporter
from tests.support.fake_hub import COMMIT, FakeHub, fake_hub
from tests.support.upstream import picture, write_catalog

QUIET = LineReporter(None)
FEATURES = b'{"info": {"features": {"id": {"dtype": "int64", "_type": "Value"}, "image": {"_type": "Image"}}}}'


def parquet(first: int, count: int, *, group: int = 5) -> bytes:
    rows = [{"id": number, "image": {"bytes": picture(number), "path": None}} for number in range(first, first + count)]
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("image", image)], {b"huggingface": FEATURES})
    table = pa.Table.from_pylist(rows, schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=group)
    return buffer.getvalue()


README = b"""---
configs:
- config_name: ai2d
  data_files:
  - {split: train, path: "ai2d/train-*"}
- config_name: other
  data_files:
  - {split: train, path: "other/*"}
---
"""


def repository() -> dict[str, bytes]:
    shards = {f"ai2d/train-{n:05d}-of-00003.parquet": parquet(n * 20, 20) for n in range(3)}
    return {"README.md": README, "other/a.jsonl": b'{"id": 1, "q": "Why?"}\n', **shards}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(hub, "GROUP_BYTES", 1_000)
    monkeypatch.setattr(hub, "FILE_BYTES", 2_000)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, {"owner/name": repository()}) as found:
        yield found


def rows(folder: Path) -> list[dict[str, Any]]:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]).to_pylist()


def local_layout(folder: Path) -> HubSplit:
    """A dataset as a snapshot of the Hub lies on disk."""
    for name, data in repository().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return HubSplit(str(folder), "ai2d", "train", "main")


@pytest.mark.usefixtures("small")
def test_a_split_is_streamed_into_bounded_parquet(tmp_path: Path):
    folder = fetch_split(local_layout(tmp_path / "name"), None, tmp_path / "out", QUIET)
    found = rows(folder)
    assert [row["id"] for row in found] == list(range(60))
    assert found[7]["image"]["bytes"] == picture(7)  # as published, not decoded
    files = sorted(folder.glob("part-*.parquet"))
    assert len(files) == 3 and all(pq.read_metadata(path).row_group(0).num_rows <= 14 for path in files)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_stream_goes_on_behind_its_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int):
    what = local_layout(tmp_path / "name")
    whole = fetch_split(what, None, tmp_path / "whole", QUIET)
    written = 0
    original = hub.write_json

    def dying(path: Path, value: Any) -> None:
        nonlocal written
        original(path, value)
        written += 1
        if written == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hub, "write_json", dying)
        with pytest.raises(KeyboardInterrupt):
            fetch_split(what, None, tmp_path / "out", QUIET)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(before) == after
    folder = fetch_split(what, None, tmp_path / "out", QUIET)
    for path in sorted(whole.glob("part-*")):
        assert (folder / path.name).read_bytes() == path.read_bytes()
        assert before.get(path.name) in (None, (folder / path.name).stat().st_mtime_ns)


def test_a_split_is_streamed_from_the_hub_at_a_commit(tmp_path: Path, remote: FakeHub):
    commit = resolved("owner/name", "main", tmp_path)
    assert commit == COMMIT
    folder = fetch_split(HubSplit("owner/name", "ai2d", "train", "main"), commit, tmp_path / "out", QUIET)
    assert [row["id"] for row in rows(folder)] == list(range(60))
    assert remote.server is not None
    resolve = [request.path for request in remote.server.requests if request.path.endswith(".parquet")]
    assert resolve and all(f"/resolve/{COMMIT}/" in path for path in resolve)


def test_a_branch_is_resolved_once_and_kept(tmp_path: Path, remote: FakeHub, monkeypatch: pytest.MonkeyPatch):
    assert resolved("owner/name", "main", tmp_path) == COMMIT
    remote.commits["main"] = "d" * 40
    assert resolved("owner/name", "main", tmp_path) == COMMIT
    assert resolved("owner/name", "main", tmp_path, refresh=True) == "d" * 40
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolved("owner/name", "main", tmp_path) == "d" * 40
    assert resolved("owner/name", "e" * 40, tmp_path) == "e" * 40


@pytest.mark.parametrize(
    ("dataset", "revision", "words"),
    [("owner/none", "main", "no such dataset, or it is private"), ("owner/name", "v9", "there is no revision 'v9'")],
)
def test_what_is_not_on_the_hub_is_said(tmp_path: Path, remote: FakeHub, dataset: str, revision: str, words: str):
    with pytest.raises(FetchError, match=words):
        resolved(dataset, revision, tmp_path)


def test_without_a_network_it_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="the Hub cannot be asked and nothing was fetched before"):
        resolved("owner/name", "main", tmp_path)


@pytest.mark.parametrize(("config", "split"), [("none", "train"), ("ai2d", "test")])
def test_a_config_or_split_that_is_not_there(tmp_path: Path, config: str, split: str):
    what = local_layout(tmp_path / "name")
    with pytest.raises(FetchError, match=f"config {config}, split {split}.*cannot be streamed"):
        fetch_split(HubSplit(what.dataset, config, split, "main"), None, tmp_path / "out", QUIET)
    assert not list((tmp_path / "out").glob("part-*"))


def test_loose_pictures_come_with_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loose = {f"train/{label}/{n}.png": picture(n) for n, label in enumerate(["cat", "dog", "cat"])}
    for name, data in loose.items():
        (tmp_path / "pics" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pics" / name).write_bytes(data)
    folder = fetch_split(HubSplit(str(tmp_path / "pics"), None, "train", "main"), None, tmp_path / "out", QUIET)
    assert sorted(row["image"]["bytes"] for row in rows(folder)) == sorted(loose.values())
    with fake_hub(monkeypatch, {"owner/pics": loose}):
        folder = fetch_split(HubSplit("owner/pics", None, "train", "main"), COMMIT, tmp_path / "hub", QUIET)
        assert sorted(row["image"]["bytes"] for row in rows(folder)) == sorted(loose.values())


def test_a_row_cannot_name_a_file_of_another_place(tmp_path: Path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    rows_of = [{"bytes": None, "path": path} for path in (str(tmp_path / "secret.png"), "/etc/hostname", "../secret.png")]
    schema = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    table = pa.table({"image": pa.array(rows_of, schema), "images": pa.array([rows_of] * 3, pa.list_(schema))})
    for commit in (None, COMMIT):
        (tmp_path / "own").mkdir(exist_ok=True)
        filled = with_bytes(table, str(tmp_path / "own"), commit, None)
        assert {row["bytes"] for row in filled["image"].to_pylist()} == {None}
        assert {row["bytes"] for row in filled["images"].to_pylist()[0]} == {None}


def test_a_folder_of_the_datasets_name_is_not_read_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FetchError, match="a folder 'owner/name' lies here"):
        fetch_split(HubSplit("owner/name", None, "train", "main"), COMMIT, tmp_path / "out", QUIET)


def test_code_of_a_dataset_is_never_run(tmp_path: Path):
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(FetchError):
        fetch_split(HubSplit(str(folder), None, "train", "main"), None, tmp_path / "out", QUIET)
    assert not (tmp_path / "ran").exists()


def test_files_of_a_repository_are_promised_with_size_and_hash(
    tmp_path: Path, remote: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    files = repository_files("owner/name", COMMIT, tmp_path)
    assert set(files) == set(repository())
    assert files["README.md"].sha256 is None and files["README.md"].size == len(README)
    shard = files["ai2d/train-00000-of-00003.parquet"]
    assert shard.sha256 and shard.url.endswith(f"/datasets/owner/name/resolve/{COMMIT}/ai2d/train-00000-of-00003.parquet")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert set(repository_files("owner/name", COMMIT, tmp_path)) == set(files)


def test_the_token_is_shown_to_the_hub_and_to_nobody_else(
    tmp_path: Path, remote: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    remote.token = "hf_s3cr3t"
    with pytest.raises(FetchError, match="HF_TOKEN"):
        resolved("owner/name", "main", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    caplog.set_level("DEBUG")
    commit = resolved("owner/name", "main", tmp_path)
    fetch_split(HubSplit("owner/name", "ai2d", "train", "main"), commit, tmp_path / "out", QUIET)
    with pytest.raises(FetchError) as caught:
        fetch_split(HubSplit("owner/name", "none", "train", "main"), commit, tmp_path / "other", QUIET)
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    for place in (str(caught.value), caplog.text, written):
        assert "s3cr3t" not in place


def test_the_first_rows_are_tried_without_fetching_the_rest(tmp_path: Path, remote: FakeHub):
    row = {
        "category": "ocr", "layout": "caption", "location": {"hub": "owner/name", "config": "ai2d"},
        "fields": {"question": {"text": "Which colour?"}, "caption": "number {id}"}, "images": {"bytes": "image"},
    }  # fmt: skip
    catalog = write_catalog(tmp_path, {"numbers": row})
    trial = try_row(catalog, catalog.source("numbers"), 5)
    assert [sample.turns[1][1] for sample in trial.samples] == [f"number {number}" for number in range(5)]
    assert [sample.images[0].num_bytes for sample in trial.samples] == [len(picture(number)) for number in range(5)]
    assert not trial.parts[0].is_all
    assert remote.server is not None
    assert not any("train-00002-of" in request.path and request.method == "GET" for request in remote.server.requests)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"], "nothing is kept"
