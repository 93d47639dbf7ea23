"""Attempts that are killed by a picture: the next one of the same task names it, and all others come out as ever."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.inspection.lookup import look_up
from curation.steps.step import Artefact
from curation.storage.store import Store
from tests.support.poisoned import poison, poisonous
from tests.support.release_world import archive_files, local_release, packed_tar
from tests.support.upstream import SHAPES_REJECTED, content, ingest, write_catalog, write_files, write_world

INGEST = """
import sys
from pathlib import Path
from curation.catalog.file import load_catalog
from curation.storage.store import Store
from tests.support.upstream import ingest
ingest(load_catalog(Path(sys.argv[1])), sys.argv[2], Store.open(sys.argv[3]))
"""


def ingest_poisoned(catalog: Catalog, source: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """The second attempt at a source, here, after one in a process that died of poison; so do this process's children."""
    command = [sys.executable, "-c", INGEST, str(catalog.folder / "catalog.yaml"), source, str(root)]
    died = subprocess.run(command, env=poisonous(), check=False, stderr=subprocess.DEVNULL).returncode
    assert died == -signal.SIGSEGV
    monkeypatch.setenv("PYTHONPATH", poisonous()["PYTHONPATH"])
    return ingest(catalog, source, Store.open(str(root)))


def test_a_deadly_picture_costs_its_record_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalog = write_world(tmp_path / "up")
    write_files(tmp_path / "up", {"shapes/pictures/2.png": poison()})
    artefact = ingest_poisoned(catalog, "shapes", tmp_path / "root", monkeypatch)
    rejected = pl.concat([pl.read_parquet(path) for path in artefact.files("rejected")])
    [record] = rejected.filter(reason="crashed_decoder").to_dicts()
    assert json.loads(record["raw"])["image"] == "2.png"
    counts = artefact.manifest["counts"]
    assert counts["records"] == counts["samples"] + sum(counts["rejected"].values())
    assert counts["rejected"] == {**SHAPES_REJECTED, "crashed_decoder": 1}
    [life] = look_up(Store.at(str(tmp_path / "root")), record["record_id"])
    assert life.rejected is not None
    assert life.rejected["reason"] == "crashed_decoder"


def test_a_deadly_member_of_an_archive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = archive_files("dvqa/images", {f"{number}.png": number for number in range(12)}) | {"dvqa/images/5.png": poison()}
    catalog = local_release(tmp_path, **{"dvqa.tar.gz": packed_tar(files)})
    counts = ingest_poisoned(catalog, "dvqa", tmp_path / "root", monkeypatch).manifest["counts"]
    assert counts["rejected"] == {"crashed_decoder": 1}
    assert counts["samples"] == 11


def test_a_killed_attempt_without_a_deadly_picture_changes_nothing(tmp_path: Path):
    catalog = write_world(tmp_path / "up")
    whole = ingest(catalog, "shapes", Store.open(str(tmp_path / "a")))
    store = Store.open(str(tmp_path / "b"))
    work = store.work("ingest-shapes", whole.fingerprint)
    (work / "looked-00000000.begun").touch()  # what a killed attempt leaves
    again = ingest(catalog, "shapes", store)
    assert content(again.folder) == content(whole.folder)


def test_no_note_stays_behind(tmp_path: Path):
    catalog = write_catalog(tmp_path, {"s": {
        "category": "general", "layout": "qa", "location": {"files": "r.json"},
        "fields": {"question": "q", "answer": "a"}, "images": {"path": "i"},
    }})  # fmt: skip
    write_files(tmp_path, {"r.json": json.dumps([{"q": "What?", "a": "That.", "i": "x.png"}]), "x.png": b"bad"})
    ingest(catalog, "s", Store.open(str(tmp_path / "root")))
    assert not list((tmp_path / "root").rglob("*.begun"))
