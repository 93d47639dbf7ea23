import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.spec import Catalog
from curation.errors import CatalogError, RejectReason
from curation.storage.store import Store
from tests.support.upstream import (
    SHAPES_REJECTED,
    SHAPES_SAMPLES,
    SOURCES,
    BackwardsPool,
    Killed,
    NotingPool,
    StoppingPool,
    content,
    ingest,
    picture,
    rows,
    write_catalog,
    write_files,
    write_world,
)

pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.mark.parametrize("name", SOURCES)
def test_records_are_samples_and_rejected(world: Catalog, store: Store, name: str):
    artefact = ingest(world, name, store)
    counts = artefact.manifest["counts"]
    assert counts["records"] == counts["samples"] + sum(counts["rejected"].values())
    assert counts["samples"] == len(rows(artefact, "samples"))
    found = Counter(rows(artefact, "rejected")["reason"]) if artefact.files("rejected") else {}
    assert found == counts["rejected"]


def test_every_kind_of_dirt_has_its_reason(world: Catalog, store: Store):
    counts = ingest(world, "shapes", store).manifest["counts"]
    assert counts["rejected"] == SHAPES_REJECTED
    elsewhere = {RejectReason.ARCHIVE_DAMAGED, RejectReason.UNREADABLE_FILE, RejectReason.CRASHED_DECODER}
    assert set(SHAPES_REJECTED) == {reason.value for reason in RejectReason if reason not in elsewhere}
    assert counts["samples"] == SHAPES_SAMPLES
    assert counts["repaired"] == {"extension_corrected": 1}


def test_every_record_has_one_fate(world: Catalog, store: Store):
    artefact = ingest(world, "shapes", store)
    origin = ["origin_file", "origin_position"]
    fates = pl.concat([rows(artefact, "samples").select(origin), rows(artefact, "rejected").select(origin)])
    assert sorted(fates["origin_position"]) == list(range(SHAPES_SAMPLES + sum(SHAPES_REJECTED.values())))


def test_rejected_records_are_kept_as_they_were(world: Catalog, store: Store):
    rejected = rows(ingest(world, "shapes", store), "rejected")
    malformed = rejected.filter(pl.col("reason") == "bad_json")
    assert malformed["raw"].to_list() == [b'{"id": 31, "question": nonsense}']
    missing = rejected.filter(pl.col("detail").str.contains("'pictures/missing.png'"))
    assert json.loads(missing["raw"][0])["id"] == 16
    assert missing["record_id"][0] == f"shapes:train.json:{missing['origin_position'][0]}"


def test_equal_records_get_ids_of_their_own(world: Catalog, store: Store):
    for name, copies in (("shapes", 1), ("chats", 2)):
        samples = rows(ingest(world, name, store), "samples")
        assert samples["sample_id"].is_unique().all()
        assert samples["sample_id"].str.contains(r"-d\d+$").sum() == copies


def test_copies_are_numbered_by_origin(world: Catalog, store: Store):
    samples = rows(ingest(world, "chats", store), "samples").filter(pl.col("origin_id") == "chat-3")
    found = {(row["origin_file"], row["origin_position"]): row["sample_id"][37 - 7 :] for row in samples.to_dicts()}
    assert found == {("a.jsonl", 3): "", ("a.jsonl", 12): "-d1", ("b.jsonl", 0): "-d2"}


def test_each_distinct_picture_is_stored_once_as_published(world: Catalog, store: Store):
    artefact = ingest(world, "shapes", store)
    samples = rows(artefact, "samples")
    shown = samples["images"].explode().struct.unnest().unique(["sha256", "tar", "offset"])
    assert shown["sha256"].is_unique().all()
    stored = []
    for number, path in enumerate(sorted(artefact.folder.glob("images-*.tar"))):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        stored += [(member.name.split(".")[0], number, member.offset_data) for member in members]
    assert sorted(stored) == sorted(shown.select("sha256", "tar", "offset").iter_rows())
    first = samples.filter(pl.col("origin_id") == "0")["images"][0][0]
    tar = artefact.folder / f"images-{first['tar']:05d}.tar"
    assert tar.read_bytes()[first["offset"] :][: first["num_bytes"]] == picture(0)


def test_a_picture_of_two_parts_is_stored_once(tmp_path: Path, store: Store):
    record = {"question": "What?", "answer": "That.", "image": "0.png"}
    files = {"a.json": json.dumps([record]), "b.json": json.dumps([record | {"answer": "This."}]), "0.png": picture(0)}
    write_files(tmp_path / "two", files)
    shared = {"layout": "qa", "fields": {"question": "question", "answer": "answer"}, "images": {"path": "image"}}
    parts = [{"location": {"root": "two", "files": name}} for name in ("a.json", "b.json")]
    catalog = write_catalog(tmp_path, {"two": {"category": "ocr", **shared, "parts": parts}})
    artefact = ingest(catalog, "two", store)
    assert len(list(artefact.folder.glob("images-*.tar"))) == 1
    images = rows(artefact, "samples")["images"].explode().struct.unnest()
    assert len(images) == 2
    assert len(images.unique()) == 1


def test_encoding_is_told_by_the_bytes(world: Catalog, store: Store):
    samples = rows(ingest(world, "shapes", store), "samples")
    lying = samples.filter(pl.col("origin_id") == "30")["images"][0][0]
    assert lying["extension"] == "jpg"


@pytest.mark.parametrize("name", ["shapes", "chats"])
def test_same_bytes_for_any_order(tmp_path: Path, name: str):
    one, other = tmp_path / "one", tmp_path / "other"
    plain = ingest(write_world(one), name, Store.open(str(one / "root")))
    turned = ingest(write_world(other, backwards=True), name, Store.open(str(other / "root")), BackwardsPool())
    assert plain.fingerprint == turned.fingerprint
    assert content(plain.folder) == content(turned.folder)


@pytest.mark.parametrize("name", ["shapes", "chats"])
def test_same_bytes_after_dying_at_any_task(world: Catalog, tmp_path: Path, name: str):
    noting = NotingPool()
    expected = content(ingest(world, name, Store.open(str(tmp_path / "whole")), noting).folder)
    for after in range(noting.tasks.total()):
        store = Store.open(str(tmp_path / f"root-{after}"))
        with pytest.raises(Killed):
            ingest(world, name, store, StoppingPool(after))
        assert not list(store.root.glob("sources/*/*/manifest.json"))
        assert content(ingest(world, name, store).folder) == expected


def test_same_bytes_after_dying_before_any_rename(world: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = content(ingest(world, "chats", Store.open(str(tmp_path / "whole"))).folder)
    rename = Path.replace
    remaining = [0]

    def replace(path: Path, target: Path) -> Path:
        if remaining[0] == 0:
            raise Killed
        remaining[0] -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    store = Store.open(str(tmp_path / "root"))
    for attempt in range(1, 100):
        remaining[0] = 1 if attempt < 60 else 1_000
        try:
            artefact = ingest(world, "chats", store)
        except Killed:
            continue
        break
    assert attempt > 5
    assert content(artefact.folder) == expected


def test_leftovers_of_a_killed_run_do_not_stay(world: Catalog, store: Store):
    with pytest.raises(Killed):
        ingest(world, "shapes", store, StoppingPool(6))
    [folder] = (store.root / "sources" / "shapes").iterdir()
    (folder / ".writing-1-samples-00000.parquet").write_bytes(b"half")
    artefact = ingest(world, "shapes", store)
    assert not list(artefact.folder.glob(".writing-*"))
    assert not list((store.root / "work").iterdir())


def test_a_second_run_does_nothing(world: Catalog, store: Store):
    first = ingest(world, "shapes", store)
    noting = NotingPool()
    assert ingest(world, "shapes", store, noting).folder == first.folder
    assert not noting.tasks


@pytest.mark.parametrize("file", ["train.json", "pictures/3.png"])
def test_a_changed_file_is_a_new_artefact(world: Catalog, store: Store, file: str):
    before = ingest(world, "shapes", store)
    path = world.folder / "shapes" / file
    path.write_bytes(path.read_bytes().replace(b"shape 2?", b"shape two?") if file == "train.json" else picture(77))
    after = ingest(world, "shapes", store)
    assert after.fingerprint != before.fingerprint
    assert after.manifest["counts"]["samples"] == before.manifest["counts"]["samples"]


def test_ids_do_not_depend_on_file_names(world: Catalog, store: Store):
    before = rows(ingest(world, "sums", store), "samples")
    (world.folder / "sums" / "train.tsv").rename(world.folder / "sums" / "aaa.tsv")
    after = rows(ingest(world, "sums", store), "samples")
    assert sorted(before["sample_id"]) == sorted(after["sample_id"])


def test_files_touched_but_unchanged_keep_their_name(world: Catalog, store: Store):
    before = ingest(world, "sums", store)
    os.utime(world.folder / "sums" / "train.tsv", (1, 1))
    noting = NotingPool()
    assert ingest(world, "sums", store, noting).folder == before.folder
    assert "read" not in noting.tasks


def test_a_changed_zip_is_read_anew(tmp_path: Path, store: Store):
    import zipfile

    def publish(number: int) -> None:
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
            archive.writestr("0.png", picture(number))
        (tmp_path / "new.zip").replace(tmp_path / "z" / "pictures.zip")

    write_files(tmp_path / "z", {"a.json": json.dumps([{"q": "What?", "a": "That.", "image": "0.png"}])})
    images = {"path": "image", "zip": "pictures.zip"}
    fields = {"question": "q", "answer": "a"}
    row = {"category": "ocr", "layout": "qa", "location": {"root": "z", "files": "a.json"}, "fields": fields, "images": images}
    catalog = write_catalog(tmp_path, {"z": row})
    seen = []
    for number in (1, 2):
        publish(number)
        seen.append(rows(ingest(catalog, "z", store), "samples")["images"][0][0]["pixels"])
    assert seen[0] != seen[1]


def test_same_file_name_under_two_roots(tmp_path: Path, store: Store):
    record = json.dumps([{"q": "What?", "a": "That."}])
    write_files(tmp_path, {"one/data.json": record, "two/data.json": record})
    parts = [{"location": {"root": root, "files": "data.json"}} for root in ("one", "two")]
    fields = {"question": "q", "answer": "a"}
    catalog = write_catalog(tmp_path, {"both": {"category": "math", "layout": "qa", "fields": fields, "parts": parts}})
    samples = rows(ingest(catalog, "both", store), "samples")
    assert samples["sample_id"].is_unique().all()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ({"root": "nowhere", "files": "*"}, "is no folder"),
        ({"root": "sums", "files": "*.csv"}, "no file matches '\\*.csv'"),
        ({"root": "sums", "files": "../chats/*"}, "leaves the location"),
    ],
)
def test_a_source_that_is_not_there_is_named(world: Catalog, store: Store, location: dict, expected: str):
    catalog = write_catalog(world.folder, {"sums": SOURCES["sums"] | {"location": location}})
    with pytest.raises(CatalogError, match=expected) as caught:
        ingest(catalog, "sums", store)
    assert "source 'sums'" in str(caught.value)


def test_a_source_of_dirt_alone_is_whole_and_empty(tmp_path: Path, store: Store):
    write_files(tmp_path / "bad", {"a.jsonl": "nonsense\n{}\n"})
    row = {
        "category": "math",
        "layout": "qa",
        "location": {"root": "bad", "files": "*"},
        "fields": {"question": "q", "answer": "a"},
    }
    artefact = ingest(write_catalog(tmp_path, {"bad": row}), "bad", store)
    assert artefact.manifest["counts"] == {
        "records": 2, "samples": 0, "rejected": {"bad_json": 1, "missing_field": 1}, "repaired": {}, "images": 0, "tokens": 0,
    }  # fmt: skip


HOSTILE = {
    "deep": '{"q": "?", "a": "!", "x": ' + "[" * 400 + "]" * 400 + "}",
    "deeper": '{"q": "?", "a": "!", "x": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "deep-nan": '{"q": "?", "a": "!", "y": NaN, "x": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "big": '{"q": "?", "a": "!", "x": ' + "9" * 40 + ', "y": NaN}',
    "surrogate": '{"q": "\\ud800", "a": "!", "y": NaN}',
    "zero": '{"q": "\\u0000", "a": "\\u0000!"}',
    "separators": '{"q": "\\u001e?", "a": "\\u2028!"}',
    "array": '["q", "a"]',
    "infinite": '{"q": 1e999, "a": "!"}',
    "keys": '{"q": "?", "a": "!", "q": "??"}',
    "bytes": b'{"q": "\xff", "a": "!"}',
}


@pytest.mark.parametrize("extra", [{}, {"images": {"path": "image", "optional": True}}], ids=["text", "pictures"])
def test_hostile_records_are_samples_or_rejects(tmp_path: Path, store: Store, extra: dict):
    lines = [text if isinstance(text, bytes) else text.encode() for text in HOSTILE.values()]
    write_files(tmp_path / "bad", {"a.jsonl": b"\n".join(lines)})
    row = {"category": "math", "layout": "qa", "location": {"root": "bad", "files": "*.jsonl"}}
    row |= {"fields": {"question": "q", "answer": "a"}} | extra
    counts = ingest(write_catalog(tmp_path, {"bad": row}), "bad", store).manifest["counts"]
    assert counts["records"] == len(HOSTILE)
    assert counts["rejected"].keys() <= {"bad_json", "missing_field", "empty_question"}


def test_hostile_names_in_archives_and_folders(tmp_path: Path, store: Store):
    folder = write_files(tmp_path / "odd", {"fine.png": picture(1)})
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(picture(2))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name, data in (("é.txt", b"An accent."), ("é.png", picture(3)), ("a.txt", b"A sign."), ("a.x#y.png", picture(4))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    write_files(folder, {"a.tar": buffer.getvalue(), "a.json": json.dumps([{"caption": "One.", "image": "fine.png"}])})
    part_of_tar = {
        "location": {"root": "odd", "files": "*.tar"},
        "reader": {"format": "webdataset"},
        "images": {"members": ["png"]},
    }
    part_of_tar["fields"] = {"caption": "txt"}
    part_of_folder = {
        "location": {"root": "odd", "files": "*.json"},
        "images": {"path": "image"},
        "fields": {"caption": "caption"},
    }
    row = {"category": "general", "layout": "caption", "parts": [part_of_tar, part_of_folder]}
    counts = ingest(write_catalog(tmp_path, {"odd": row}), "odd", store).manifest["counts"]
    assert counts["samples"] == 3, counts


def test_the_cauldron_is_ingested_by_a_row_alone(tmp_path: Path, store: Store):
    """`images: [{bytes, path}]`, `texts: [{user, assistant, source}, ...]`, as its configs are published."""
    records = [
        {
            "images": [{"bytes": picture(number + i), "path": None} for i in range(number % 3)],
            "texts": [{"user": f"Question {number}, {i}?", "assistant": f"{i}.", "source": "x"} for i in range(2)],
        }
        for number in range(6)
    ]
    write_files(tmp_path, {"data/train.parquet": b""})
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "data" / "train.parquet")
    row = {
        "category": "ocr",
        "layout": "conversations",
        "location": {"root": "data", "files": "*.parquet"},
        "reader": {"format": "parquet"},
        "fields": {"turns": "texts", "question": "user", "answer": "assistant"},
        "images": {"bytes": "images", "add_markers": True, "optional": True},
    }
    artefact = ingest(write_catalog(tmp_path, {"cauldron": row}), "cauldron", store)
    samples = rows(artefact, "samples").sort("origin_position")
    assert artefact.manifest["counts"]["rejected"] == {}
    assert samples["num_images"].to_list() == [0, 1, 2, 0, 1, 2]
    turns = [[turn["value"] for turn in conversation] for conversation in samples["conversations"].to_list()]
    assert turns[2] == ["<image>\n<image>\nQuestion 2, 0?", "0.", "Question 2, 1?", "1."]


def test_an_id_may_have_alternatives(tmp_path: Path, store: Store):
    write_files(tmp_path, {"data/a.jsonl": '{"q": "a", "uid": "u"}\n{"q": "b", "pid": 7}\n{"q": "c"}\n{"q": "d", "uid": " "}'})
    fields = {"question": "q", "answer": "q", "id": ["uid", "pid"]}
    row = {"category": "ocr", "layout": "qa", "location": {"root": "data", "files": "*.jsonl"}, "fields": fields}
    samples = rows(ingest(write_catalog(tmp_path, {"data": row}), "data", store), "samples").sort("origin_position")
    assert samples["origin_id"].to_list() == ["u", "7", None, None]


@pytest.mark.parametrize("quoting", [False, True])
def test_columns_may_have_any_names(tmp_path: Path, store: Store, quoting: bool):
    write_files(tmp_path, {"data/a.csv": "Question text,best.answer\nWhy?,Because\n"})
    fields = {"question": '"Question text"', "answer": '{"best.answer"}.'}
    reader = {"format": "delimited", "separator": ",", "header": True, "quoting": quoting}
    row = {
        "category": "ocr",
        "layout": "qa",
        "location": {"root": "data", "files": "*.csv"},
        "fields": fields,
        "reader": reader,
    }
    [turns] = rows(ingest(write_catalog(tmp_path, {"data": row}), "data", store), "samples")["conversations"].to_list()
    assert [turn["value"] for turn in turns] == ["Why?", "Because."]
