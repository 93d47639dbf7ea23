import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.catalog.spec import Catalog
from curation.errors import CatalogError
from curation.runtime.pool import InProcessPool
from curation.storage.store import Store
from curation.upstream.inputs import PartInputs, find_inputs, hash_inputs, inputs_digest
from tests.support.upstream import write_catalog, write_files

FILES = {
    "a.json": "[]",
    "b.json": "{}",
    "pics/0.png": "0",
    "pics/deep/1.png": "1",
    "other/2.png": "2",
    "all.zip": b"PK\x05\x06" + bytes(18),
    "x.txt": "x",
}


def catalog_of(folder: Path, **part: Any) -> Catalog:
    write_files(folder / "data", FILES)
    row = {"category": "ocr", "layout": "qa", "location": {"root": "data", "files": "*.json"}}
    return write_catalog(folder, {"data": row | {"fields": {"question": "q", "answer": "a"}} | part})


def found_in(catalog: Catalog) -> list[PartInputs]:
    return find_inputs(catalog, catalog.source("data"), Store(catalog.folder / "root"), InProcessPool())


def others(folder: Path, **part: Any) -> tuple[str, ...]:
    catalog = catalog_of(folder, **part)
    [found] = found_in(catalog)
    assert found.records == ("a.json", "b.json")
    return found.others


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, ()),
        ({"images": {"path": "image", "folder": "pics"}}, ("pics/0.png", "pics/deep/1.png")),
        ({"images": {"path": "pics/{id}.png"}}, ("pics/0.png", "pics/deep/1.png")),
        ({"images": {"path": "deep/{id}.png", "folder": "pics"}}, ("pics/deep/1.png",)),
        ({"images": {"path": "image", "zip": "all.zip"}}, ("all.zip",)),
        ({"images": {"path": "image", "tar": "none.tar"}}, ()),
        ({"join": {"x": {"file": "x.txt", "format": "text"}}}, ("x.txt",)),
        ({"join": {"x": {"file": "other/{id}.json"}}}, ("other/2.png",)),
        ({"images": {"path": "image"}}, ("all.zip", "other/2.png", "pics/0.png", "pics/deep/1.png", "x.txt")),
    ],
)
def test_all_files_that_may_be_read_are_found(tmp_path: Path, part: dict, expected: tuple[str, ...]):
    assert others(tmp_path, **part) == expected


def test_patterns_may_be_several_and_overlap(tmp_path: Path):
    catalog = catalog_of(tmp_path, location={"root": "data", "files": ["*.json", "b.*", "**/1.png"]})
    [found] = found_in(catalog)
    assert found.records == ("a.json", "b.json", "pics/deep/1.png")


def test_a_link_out_of_the_location_is_refused(tmp_path: Path):
    catalog = catalog_of(tmp_path)
    (tmp_path / "secret.json").write_text("[]")
    (tmp_path / "data" / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(CatalogError, match=r"'link\.json' is a link out of"):
        found_in(catalog)


def test_files_are_named_by_what_they_hold(tmp_path: Path, store: Store):
    catalog = catalog_of(tmp_path / "one", images={"path": "image", "folder": "pics"})
    files = hash_inputs(store, catalog.source("data"), found_in(catalog), InProcessPool())
    assert files["file"].to_list() == ["0/a.json", "0/b.json", "0/pics/0.png", "0/pics/deep/1.png"]
    assert files["sha256"][0] == hashlib.sha256(b"[]").hexdigest()
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    moved = catalog.model_copy(update={"folder": tmp_path / "other"})
    again = hash_inputs(store, moved.source("data"), found_in(moved), InProcessPool())
    assert inputs_digest(again) == inputs_digest(files)
    (tmp_path / "other" / "data" / "pics" / "0.png").write_text("!")
    again = hash_inputs(store, moved.source("data"), found_in(moved), InProcessPool())
    assert inputs_digest(again) != inputs_digest(files)
