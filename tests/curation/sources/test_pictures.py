import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.spec import Images
from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.sources.pictures import fetch, picture_refs
from curation.sources.records import Member
from tests.support.upstream import part, picture, write_files

PNG = picture(1)


def refs(record: dict, **images: object) -> list[str] | Unusable:
    [found] = picture_refs([record], [7], "data/a.json", part(images=images))
    return found


def outcome(root: Path, ref: str, **images: object) -> bytes | RejectReason:
    try:
        return fetch(root, ref, Images.model_validate({"path": "image"} | images))
    except Unusable as problem:
        return problem.reason


# --- Naming -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "images", "expected"),
    [
        ({"image": "a.png"}, {"path": "image"}, ["a.png"]),
        ({"image": "./a.png "}, {"path": "image", "folder": "pics"}, ["pics/a.png"]),
        ({"image": ["a.png", "b.png"]}, {"path": "image"}, ["a.png", "b.png"]),
        ({"meta": {"files": [{"name": "a.png"}]}}, {"path": "meta.files.0.name"}, ["a.png"]),
        ({"id": 3}, {"path": "tables/{id}.png"}, ["tables/3.png"]),
        ({"id": 3}, {"path": "{id}-{i}.png", "count": 2}, ["3-0.png", "3-1.png"]),
        ({"l": "a.png", "r": "b.png"}, {"path": ["l", "r"]}, ["a.png", "b.png"]),
        ({"image": "None"}, {"path": "image", "optional": True}, []),
        ({}, {"path": "image", "optional": True}, []),
        ({"image": ["nan", "a.png"]}, {"path": "image"}, ["a.png"]),
        ({"_num_pictures": 2}, {"bytes": "img"}, ["data/a.json#7#0", "data/a.json#7#1"]),
        (
            {"_members": (Member("json", 512, 2), Member("a#b.jpg", 1536, 9), Member("mp4", 9000, 9))},
            {"members": ["jpg"]},
            ["data/a.json#1536#9#.a_b.jpg"],
        ),
    ],
)
def test_a_record_names_its_pictures(record: dict, images: dict, expected: list[str]):
    assert refs(record, **images) == expected


@pytest.mark.parametrize("name", [None, "", " ", "None", "nan", "NULL", [], ["none"]])
def test_a_record_without_a_picture_is_missing_one(name: object):
    assert refs({"image": name}, path="image").reason is RejectReason.MISSING_IMAGE


@pytest.mark.parametrize(
    ("record", "images", "expected"),
    [
        ({}, {"path": "{id}.png"}, RejectReason.MISSING_IMAGE),
        ({"image": 3}, {"path": "image"}, RejectReason.UNSUPPORTED_VALUE),
        ({"image": ["a", None]}, {"path": "image"}, RejectReason.UNSUPPORTED_VALUE),
        ({"image": ["a"] * 3}, {"path": "image", "limit": 2}, RejectReason.TOO_MANY_IMAGES),
        ({"image": "../a.png"}, {"path": "image", "optional": True}, RejectReason.PATH_ESCAPES),
        ({"image": "/etc/passwd"}, {"path": "image"}, RejectReason.PATH_ESCAPES),
        ({"_num_pictures": 0}, {"bytes": "img"}, RejectReason.MISSING_IMAGE),
        ({"_members": ()}, {"members": []}, RejectReason.MISSING_IMAGE),
    ],
)
def test_what_cannot_be_named_has_a_reason(record: dict, images: dict, expected: RejectReason):
    assert refs(record, **images).reason is expected


def test_without_images_there_are_none():
    assert picture_refs([{}, {}], [0, 1], "a", part()) == [[], []]


# --- Fetching -----------------------------------------------------------------------------------------------------------


def test_from_a_folder(tmp_path: Path):
    root = write_files(tmp_path / "root", {"pics/a.png": PNG, "pics/b/c.png": b""})
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "pics" / "link.png").symlink_to(tmp_path / "secret.png")
    assert outcome(root, "pics/a.png") == PNG
    assert outcome(root, "pics/missing.png") is RejectReason.MISSING_IMAGE
    assert outcome(root, "pics/b") is RejectReason.MISSING_IMAGE
    assert outcome(root, "pics/link.png") is RejectReason.PATH_ESCAPES
    assert outcome(root, "pics/" + "long" * 100) is RejectReason.MISSING_IMAGE
    assert outcome(root, "http://example.org/a.png") is RejectReason.MISSING_IMAGE


def test_from_a_zip(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/a.png", PNG)
        archive.writestr("in/b.png", bytes(5_000))
    data = (tmp_path / "z.zip").read_bytes()
    place = data.rindex(b"in/b.png", 0, len(data) // 2 + 60) + 8
    (tmp_path / "damaged.zip").write_bytes(data[:place] + b"\xff" * 6 + data[place + 6 :])
    (tmp_path / "cut.zip").write_bytes(data[:60])
    assert outcome(tmp_path, "in/a.png", zip="z.zip") == PNG
    assert outcome(tmp_path, "a.png", zip="z.zip") is RejectReason.MISSING_IMAGE
    assert outcome(tmp_path, "in/a.png", zip="none.zip") is RejectReason.MISSING_IMAGE
    assert outcome(tmp_path, "in/b.png", zip="damaged.zip") is RejectReason.UNREADABLE_IMAGE
    assert outcome(tmp_path, "in/a.png", zip="cut.zip") is RejectReason.ARCHIVE_DAMAGED


def test_from_a_tar(tmp_path: Path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("./in/a.png", "in/b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(PNG)
            tar.addfile(member, io.BytesIO(PNG))
        link = tarfile.TarInfo("in/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "t.tar").read_bytes()[: 512 + 512 + 512])
    assert outcome(tmp_path, "in/a.png", tar="t.tar") == PNG
    assert outcome(tmp_path, "in/a.png", tar="cut.tar") == PNG
    assert outcome(tmp_path, "in/b.png", tar="cut.tar") is RejectReason.ARCHIVE_DAMAGED
    for name, tar in (("in/c.png", "t.tar"), ("in/link.png", "t.tar"), ("in/a.png", "none.tar")):
        assert outcome(tmp_path, name, tar=tar) is RejectReason.MISSING_IMAGE


@pytest.mark.parametrize("row", [PNG, [PNG, None], {"bytes": PNG, "path": "a.png"}, [{"bytes": PNG}, {"bytes": b""}]])
def test_from_a_column(tmp_path: Path, row: object):
    table = pa.Table.from_pylist([{"img": None}, {"img": row}, {"img": row}])
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    images = {"path": None, "bytes": "img"}
    for position in (1, 2):
        assert outcome(tmp_path, f"a.parquet#{position}#0", **images) == PNG
        if isinstance(row, list):
            assert outcome(tmp_path, f"a.parquet#{position}#1", **images) is RejectReason.MISSING_IMAGE


def test_from_a_range_of_a_tar(tmp_path: Path):
    write_files(tmp_path, {"a.tar": b"..." + PNG + b"..."})
    assert outcome(tmp_path, f"a.tar#3#{len(PNG)}#.jpg", path=None, members=["jpg"]) == PNG


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.sources.pictures.MAX_FILE_BYTES", len(PNG) - 1)
    write_files(tmp_path, {"a.png": PNG, "a.json": json.dumps({})})
    assert outcome(tmp_path, "a.png") is RejectReason.IMAGE_TOO_LARGE
