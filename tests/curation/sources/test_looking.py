from pathlib import Path

import polars as pl
import pytest

from curation.catalog.spec import Images
from curation.sources.looking import LookTask, look_at_pictures, looked_path, merge_tars
from tests.support.upstream import picture, write_files

FILES = {
    "a.png": picture(1),
    "b.png": picture(2),
    "copy.png": picture(1),
    "c.jpg": picture(3),
    "bad.png": b"bad",
    "d.jpeg": picture(4, "JPEG"),
}

NAMED = Images(path="x")


def looked(folder: Path) -> list[Path]:
    return [looked_path(folder, number) for number in range(3)]


@pytest.fixture
def merged(tmp_path: Path) -> tuple[pl.DataFrame, Path]:
    """Facts of three tasks that share pictures, and the folder with the tars."""
    root = write_files(tmp_path / "root", FILES)
    (tmp_path / "folder").mkdir()
    for number, refs in enumerate(
        (["a.png", "copy.png", "none.png"], ["b.png", "copy.png", "bad.png"], ["a.png", "c.jpg", "d.jpeg"])
    ):
        look_at_pictures(LookTask(str(root), Images(path="x"), refs, str(tmp_path), number))
    facts = tmp_path / "facts.parquet"
    assert merge_tars(looked(tmp_path), tmp_path / "folder", facts, images=NAMED, first_tar=4, earlier=[]) == 7
    return pl.read_parquet(facts), tmp_path


def test_facts_point_at_the_published_bytes(merged: tuple):
    facts, folder = merged
    whole = facts.filter(pl.col("reason").is_null())
    for row in whole.to_dicts():
        data = (folder / "folder" / f"images-{row['tar']:05d}.tar").read_bytes()
        assert data[row["offset"] :][: row["num_bytes"]] == FILES[row["ref"]]
    assert whole.unique(["sha256", "tar", "offset"]).height == 4


def test_pictures_that_are_not_whole_have_a_reason(merged: tuple):
    reasons = dict(merged[0].filter(pl.col("reason").is_not_null()).select("ref", "reason").iter_rows())
    assert reasons == {"none.png": "missing_image", "bad.png": "unreadable_image"}


def test_a_name_that_lies_is_noticed(merged: tuple):
    lies = merged[0].filter(pl.col("is_misnamed"))["ref"].to_list()
    assert lies == ["c.jpg"]


def test_merging_again_changes_nothing(merged: tuple):
    _, folder = merged
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "folder").iterdir()}
    assert merge_tars(looked(folder), folder / "folder", folder / "facts.parquet", images=NAMED, first_tar=4, earlier=[]) == 7
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "folder").iterdir()} == before


def test_a_later_part_refers_to_what_is_stored(merged: tuple):
    _, folder = merged
    look_at_pictures(LookTask(str(folder / "root"), Images(path="x"), ["a.png", "b.png"], str(folder), 100_000))
    facts = folder / "later.parquet"
    assert (
        merge_tars(
            [looked_path(folder, 100_000)],
            folder / "folder",
            facts,
            images=NAMED,
            first_tar=7,
            earlier=[folder / "facts.parquet"],
        )
        == 7
    )
    columns = ["ref", "tar", "offset"]
    first = merged[0].filter(pl.col("ref").is_in(["a.png", "b.png"])).select(columns).unique().sort("ref")
    assert pl.read_parquet(facts).select(columns).sort("ref").equals(first)


def test_no_pictures_at_all_are_merged_too(tmp_path: Path):
    assert merge_tars([], tmp_path, tmp_path / "facts.parquet", images=NAMED, first_tar=2, earlier=[]) == 2
    assert pl.read_parquet(tmp_path / "facts.parquet").is_empty()
