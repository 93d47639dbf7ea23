import json
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from curation.errors import StoreError
from curation.storage.store import (
    Store,
    is_published,
    latest,
    point_to_latest,
    publish,
    read_manifest,
    read_object,
    replacing,
    write_json,
    write_table,
)


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "deep" / "file"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_what_cannot_be_written_as_json_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_equal_tables_give_equal_bytes(tmp_path: Path):
    table = pa.table({"source": ["a"] * 5, "value": list(range(5))})
    for name in ("one", "other"):
        write_table(tmp_path / name, table)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_an_artefact_is_there_once_its_manifest_is(tmp_path: Path):
    folder = tmp_path / "sources" / "a" / "f1"
    (folder / "inner").mkdir(parents=True)
    (folder / ".writing-1-x").touch()
    (folder / "inner" / ".writing-2-y").touch()
    (folder / "data").touch()
    assert not is_published(folder)
    with pytest.raises(StoreError, match="nothing was published"):
        read_manifest(folder)
    publish(folder, {"x": "é"})
    assert read_manifest(folder) == {"x": "é"}
    assert sorted(path.name for path in folder.rglob("*")) == ["data", "inner", "manifest.json"]


def test_latest_is_the_newest_that_is_whole(tmp_path: Path):
    assert latest(tmp_path) is None
    for name in ("f1", "f2", "f1"):
        publish(tmp_path / name, {})
        point_to_latest(tmp_path / name)
        assert latest(tmp_path) == tmp_path / name
    (tmp_path / "f1" / "manifest.json").unlink()
    assert latest(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_damaged_manifest_says_what_to_do(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="delete its folder"):
        read_manifest(tmp_path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_object(tmp_path / "none.json")


def test_a_root_that_cannot_be_used_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below", "/proc/curation"):  # not even root may write there
        with pytest.raises(StoreError, match="cannot be written") as caught:
            Store.open(str(root))
        assert caught.value.exit_code == 2
    with pytest.raises(StoreError, match="is no folder"):
        Store.at(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_opening_leaves_no_trace_but_the_folder(tmp_path: Path):
    store = Store.open(str(tmp_path / "deep" / "root"))
    assert store.root.is_dir()
    assert not list(store.root.iterdir())
    assert Store.at(str(store.root)) == store


def test_one_writer_at_a_time(store: Store):
    order: list[str] = []

    def second() -> None:
        with store.single_writer():
            order.append("second")

    with store.single_writer():
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.05)
        order.append("first")
    waiting.join(5)
    assert order == ["first", "second"]


def test_json_is_written_for_people(tmp_path: Path):
    write_json(tmp_path / "a.json", {"name": "é", "list": [1]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "é", "list": [1]}
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
