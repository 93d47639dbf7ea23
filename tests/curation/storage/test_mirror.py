"""A root in object storage: the same artefacts as in a folder, whole or not there, for one writer at a time."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from curation.errors import StoreError
from curation.inspection.lookup import find_release, look_up
from curation.inspection.verification import verify
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.storage import mirror as mirror_module
from curation.storage.mirror import FILES_NAME, Mirror
from curation.storage.objects import Objects
from curation.storage.store import Store, address, as_stored, is_published, latest, point_to_latest, publish, read_manifest
from tests.support.s3 import SECRET, Faults, s3_server
from tests.support.upstream import build, write_world

ROOT = "s3://lake/team/pool"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Faults]:
    monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CURATION_LEASE_SECONDS", "1")
    monkeypatch.setattr("curation.storage.objects.FIRST_PAUSE_SECONDS", 0.01)
    mirror_module._objects.cache_clear()
    with s3_server(monkeypatch) as faults:
        yield faults
    mirror_module._objects.cache_clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library's own retries, which multiply with ours, are left out where a server fails for good."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)


def on_another_machine(tmp_path: Path) -> Store:
    """The same root, seen from where nothing is cached."""
    shutil.rmtree(tmp_path / "cache")
    return Store.at(ROOT)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a release but for the time in its manifest."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["created"]
    return found | {"manifest.json": json.dumps(manifest).encode()}


def test_a_release_in_object_storage_is_the_one_a_folder_would_hold(s3: Faults, tmp_path: Path):
    catalog, mixture = write_world(tmp_path / "up"), Mixture(name="all", shard_bytes=1 << 14)
    local = build(catalog, Store.open(str(tmp_path / "root")), mixture)
    s3.plan = lambda number, method, path: {0: "503", 30: "500", 50: "short"}.get(number % 60)
    build(catalog, Store.open(ROOT), mixture)
    assert s3.num_faults > 5

    elsewhere = on_another_machine(tmp_path)
    folder = find_release(elsewhere, "all")
    assert find_release(elsewhere, f"{ROOT}/releases/all/{folder.name}") == folder
    assert not list(folder.rglob("*.tar")), "tables are brought at once, tars when somebody reads them"
    with as_stored(folder) as stored:
        (stored / FILES_NAME).unlink(missing_ok=True)
        assert contents(stored) == contents(local.folder)
    assert verify(folder, InProcessPool()).problems == []
    s3.plan = lambda number, method, path: None
    kept = pl.read_parquet(folder / "verdicts.parquet").filter(pl.col("verdict") == "keep")["sample_id"][0]
    [life] = look_up(elsewhere, kept)
    assert life.places
    assert address(folder) == f"{ROOT}/releases/all/{folder.name}"


def test_a_second_machine_does_no_work_twice(s3: Faults, tmp_path: Path):
    catalog = write_world(tmp_path / "up")
    first = build(catalog, Store.open(ROOT), Mixture(name="all"))
    on_another_machine(tmp_path)
    again = build(catalog, Store.open(ROOT), Mixture(name="all"))
    assert read_manifest(again.folder) == read_manifest(first.folder), "published once, with the time of the first run"
    narrower = build(catalog, Store.open(ROOT), Mixture(name="few", cap=2))
    assert verify(narrower.folder, InProcessPool()).problems == []


def test_an_artefact_without_manifest_is_not_there(impatient: None, s3: Faults, tmp_path: Path):
    store = Store.open(ROOT)
    folder = store.pool("abc")
    folder.mkdir(parents=True)
    (folder / "verdicts-00000.parquet").write_bytes(b"rows")
    puts: list[str] = []

    def dies_before_the_manifest(number: int, method: str, path: str) -> str | None:
        if method == "PUT":
            puts.append(path)
        return "500" if method == "PUT" and path.endswith("manifest.json") else None

    s3.plan = dies_before_the_manifest
    with pytest.raises(StoreError, match=r"manifest\.json"):
        publish(folder, {"fingerprint": "abc"})
    s3.plan = lambda number, method, path: None
    assert [path.rsplit("/", 1)[-1] for path in puts[:3]] == ["verdicts-00000.parquet", FILES_NAME, "manifest.json"]
    assert not is_published(on_another_machine(tmp_path).pool("abc"))


def test_what_was_changed_in_storage_is_refused_with_both_hashes(s3: Faults, tmp_path: Path):
    store = Store.open(ROOT)
    folder = store.pool("abc")
    folder.mkdir(parents=True)
    (folder / "verdicts-00000.parquet").write_bytes(b"rows")
    publish(folder, {"fingerprint": "abc"})
    mirror = Mirror.of_url(ROOT)
    mirror.objects.write("pools/abc/verdicts-00000.parquet", b"rowz")
    with pytest.raises(StoreError, match=r"verdicts-00000.parquet: found .* says"):
        is_published(on_another_machine(tmp_path).pool("abc"))


def test_a_list_of_files_cannot_write_outside_its_artefact(s3: Faults, tmp_path: Path):
    store = Store.open(ROOT)
    folder = store.pool("abc")
    folder.mkdir(parents=True)
    publish(folder, {"fingerprint": "abc"})
    facts = {"files": {"../../../evil": {"num_bytes": 1, "xxh3_128": ""}}}
    Mirror.of_url(ROOT).objects.write("pools/abc/files.json", json.dumps(facts).encode())
    with pytest.raises(StoreError, match="leaves the artefact"):
        is_published(on_another_machine(tmp_path).pool("abc"))


def test_two_writers_take_turns(s3: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    def write(name: str) -> None:
        # two machines: each with a cache, and so with a lock file, of its own
        mirror = Mirror.of_url(ROOT)
        root = tmp_path / name
        root.mkdir()
        (root / ".remote.json").write_text(json.dumps({"url": mirror.url}))
        with Store(root).single_writer():
            order.append(f"{name} in")
            time.sleep(0.3)
            order.append(f"{name} out")

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.split()[1] for entry in order] == ["in", "out", "in", "out"]
    assert order[0].split()[0] == order[1].split()[0]


def test_a_dead_writers_lease_runs_out(s3: Faults):
    objects = Mirror.of_url(ROOT).objects
    objects.write(".writer.lease", b"left by a process that was killed")
    started = time.monotonic()
    notes: list[str] = []
    with Store.open(ROOT).single_writer(notes.append):
        waited = time.monotonic() - started
    assert 1 <= waited < 5
    assert "another run writes" in notes[0]
    assert objects.read(".writer.lease") is None


def test_who_lost_the_lease_publishes_nothing(s3: Faults):
    store = Store.open(ROOT)
    folder = store.pool("abc")
    folder.mkdir(parents=True)
    with store.single_writer():
        Mirror.of_url(ROOT).objects.write(".writer.lease", b"taken over")
        time.sleep(0.6)
        with pytest.raises(StoreError, match="took over"):
            publish(folder, {"fingerprint": "abc"})
    assert Mirror.of_url(ROOT).objects.read("pools/abc/manifest.json") is None


def test_a_pointer_follows_whoever_moved_it_last(s3: Faults, tmp_path: Path):
    store = Store.open(ROOT)
    for name in ("aaa", "bbb"):
        folder = store.release("mix", name)
        folder.mkdir(parents=True)
        publish(folder, {"fingerprint": name})
        point_to_latest(folder)
    assert latest(on_another_machine(tmp_path).root / "releases" / "mix").name == "bbb"


class TestObjects:
    def test_only_one_of_two_creates_wins(self, s3: Faults):
        objects = Mirror.of_url(ROOT).objects
        assert objects.create("one", b"first")
        assert not objects.create("one", b"second")
        assert objects.read("one") == b"first"

    def test_an_object_that_changed_meanwhile_is_not_replaced(self, s3: Faults):
        objects = Mirror.of_url(ROOT).objects
        objects.write("one", b"first")
        seen = objects.version("one")
        objects.write("one", b"second")
        assert not objects.replace("one", b"third", seen)
        assert objects.replace("one", b"third", objects.version("one"))
        assert objects.read("one") == b"third"

    @pytest.mark.parametrize("scheme", ["s3", "memory"])
    def test_absent_objects_are_none(self, s3: Faults, scheme: str):
        objects = Mirror.of_url(f"{scheme}://lake/{scheme}").objects
        assert objects.read("nothing") is None
        assert objects.version("nothing") is None
        assert objects.names("nothing") == set()
        objects.delete("nothing")
        assert objects.replace("nothing", b"now", None)
        assert not objects.replace("nothing", b"again", None)
        assert objects.names("") == {"nothing"}

    def test_a_server_that_always_fails_is_named_after_some_tries(self, impatient: None, s3: Faults):
        objects: Objects = Mirror.of_url(ROOT).objects
        s3.plan = lambda number, method, path: "503"
        with pytest.raises(StoreError, match=r"s3://lake/team/pool/one: .*tried 3 times") as raised:
            objects.write("one", b"")
        assert SECRET not in str(raised.value)


class TestBadRoots:
    def test_credentials_do_not_belong_into_the_url(self):
        with pytest.raises(StoreError, match="holds credentials") as raised:
            Store.open("s3://key:secret@bucket/prefix")
        assert "secret@" not in str(raised.value)

    def test_an_unknown_scheme_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CURATION_CACHE", str(tmp_path))
        with pytest.raises(StoreError, match="nowhere://bucket"):
            Store.open("nowhere://bucket")

    def test_a_bucket_that_is_not_there(self, s3: Faults):
        with pytest.raises(StoreError, match="no such bucket"):
            Store.open("s3://absent-bucket/prefix")

    def test_nothing_ingested_yet(self, s3: Faults):
        with pytest.raises(Exception, match="no published release 'all' here or under s3://lake/team/pool/releases"):
            find_release(Store.at(ROOT), "all")
