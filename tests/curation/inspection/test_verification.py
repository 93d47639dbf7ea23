import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from curation.errors import StoreError
from curation.inspection.verification import verify
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.storage.store import Store
from tests.support.upstream import build, write_world


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    return build(write_world(folder), Store.open(str(folder / "root")), Mixture(name="all", shard_bytes=1 << 14)).folder


@pytest.fixture
def release(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(whole, tmp_path / "release")
    return tmp_path / "release"


def second_shard(release: Path) -> Path:
    return sorted((release / "shards").iterdir())[1]


def flip_a_byte(release: Path) -> None:
    path = second_shard(release)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate_a_shard(release: Path) -> None:
    path = second_shard(release)
    path.write_bytes(path.read_bytes()[:-512])


def swap_two_shards(release: Path) -> None:
    first, second = sorted((release / "shards").iterdir())[:2]
    first.rename(first.with_suffix(".aside"))
    second.rename(first)
    first.with_suffix(".aside").rename(second)


def in_the_index(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    def damage(release: Path) -> None:
        path = release / "index.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return damage


def set_in_row(column: str, value: pl.Expr) -> Callable[[Path], None]:
    where = pl.int_range(pl.len()) == 5
    return in_the_index(lambda index: index.with_columns(pl.when(where).then(value).otherwise(pl.col(column)).alias(column)))


def in_the_verdicts(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    """Change the verdicts and the manifest's hash of them, as a faulty writer would."""

    def damage(release: Path) -> None:
        path = release / "verdicts.parquet"
        manifest = json.loads((release / "manifest.json").read_text())
        change(pl.read_parquet(path)).write_parquet(path)
        manifest["tables"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (release / "manifest.json").write_text(json.dumps(manifest))

    return damage


def first_kept(value: pl.Expr, column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    is_first = (pl.col("verdict") == "keep") & ((pl.col("verdict") == "keep").cum_sum() == 1)
    return lambda verdicts: verdicts.with_columns(pl.when(is_first).then(value).otherwise(pl.col(column)).alias(column))


def swapped_sources(index: pl.DataFrame) -> pl.DataFrame:
    """Two rows exchange source and category, so that all counts stay."""
    first = index["source"].to_list().index("shapes")
    second = index["source"].to_list().index("chats")
    order = list(range(len(index)))
    order[first], order[second] = second, first
    facts = index.select("source", "category")[order]
    return index.with_columns(facts["source"], facts["category"])


DAMAGES = {
    "a flipped byte": (flip_a_byte, "sha256"),
    "a truncated shard": (truncate_a_shard, "bytes, the manifest says"),
    "a missing shard": (lambda release: second_shard(release).unlink(), "missing"),
    "two shards swapped": (swap_two_shards, "all-000001.tar"),
    "a stray file": (lambda release: (release / "shards" / "all-999999.tar").touch(), "not in the manifest"),
    "no index": (lambda release: (release / "index.parquet").unlink(), "cannot be read"),
    "a damaged index": (lambda release: (release / "index.parquet").write_bytes(b"PAR1"), "cannot be read"),
    "an index row less": (in_the_index(lambda index: index[:-1]), "rows, the manifest says"),
    "index rows in another order": (in_the_index(lambda index: index.reverse()), "the index says"),
    "another sample": (set_in_row("sample_id", pl.lit("shapes-0")), "the index says"),
    "another offset": (set_in_row("offset_bytes", pl.col("offset_bytes") + 512), "the index says"),
    "another length": (set_in_row("num_bytes", pl.col("num_bytes") + 512), "the index says"),
    "another number of images": (set_in_row("num_images", pl.col("num_images") + 1), "the index says"),
    "another number of tokens": (set_in_row("num_tokens", pl.col("num_tokens") + 1), "counts by source"),
    "another shard": (set_in_row("shard", pl.col("shard") + 1), "rows of the index"),
    "another repeat": (set_in_row("repeat", pl.lit(7, pl.Int32)), "the index says"),
    "another source": (set_in_row("source", pl.lit("elsewhere")), "counts by source"),
    "no verdicts": (lambda release: (release / "verdicts.parquet").unlink(), "verdicts.parquet: missing"),
    "a changed verdict": (lambda release: (release / "verdicts.parquet").write_bytes(b"PAR1"), "verdicts.parquet: sha256"),
    "a verdict less": (in_the_verdicts(lambda verdicts: verdicts[1:]), "samples of source"),
    "a verdict twice": (in_the_verdicts(lambda verdicts: pl.concat([verdicts, verdicts[:1]])), "share a sample_id"),
    "a kept sample dropped": (in_the_verdicts(first_kept(pl.lit("drop"), "verdict")), "in the index but not kept"),
    "a dropped sample without reason": (in_the_verdicts(first_kept(pl.lit("drop"), "verdict")), "no stage or reason"),
    "a kept sample of another name": (in_the_verdicts(first_kept(pl.lit("shapes-0"), "sample_id")), "kept but not in"),
    "sources of two rows swapped": (in_the_index(swapped_sources), "the index says"),
}


def test_a_whole_release_holds(whole: Path):
    assert verify(whole, InProcessPool()).problems == []


@pytest.mark.parametrize(("damage", "expected"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_reported(release: Path, damage: Callable[[Path], None], expected: str):
    damage(release)
    problems = verify(release, InProcessPool()).problems
    assert any(expected in problem for problem in problems), problems


def test_without_a_manifest_there_is_no_release(release: Path):
    (release / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        verify(release, InProcessPool())


def test_a_release_of_another_schema_is_named(release: Path):
    path = release / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 999'))
    [problem] = verify(release, InProcessPool()).problems
    assert "schema version 999" in problem
