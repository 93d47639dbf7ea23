"""The world holds what its ledger says, and the shipped catalog and demo mixture fit it."""

import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from curation.catalog.spec import Category, Layout
from curation.errors import DropReason, RejectReason
from curation.mixing.balance import plan
from curation.mixture.file import load_mixture
from curation.mixture.spec import participants
from curation.runtime.pool import InProcessPool
from curation.steps.ingest import Ingest
from curation.storage.store import Store
from flows.demo.upstream import Upstream
from flows.demo.world import BENCHMARKS, LEDGER_NAME, SOURCES, generate
from tests.flows.demo.conftest import REPOSITORY, World


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def num_lines(*files: Path) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def member_names(file: Path) -> list[str]:
    with tarfile.open(file) as tar:
        return tar.getnames()


def num_records(folder: Path) -> int:
    """Records of a source as a person would count them: every writer of the demo puts one on a line."""
    if folder.name in ("cell-plates", "receipts"):
        listed = num_lines(folder / "questions.jsonl") if folder.name == "receipts" else 0
        return len(list(folder.glob("*/data.json"))) + len(list(folder.glob("key/*.json"))) + listed
    if folder.name == "alt-texts":
        return len({name.split(".")[0] for file in folder.glob("*.tar") for name in member_names(file)})
    if folder.name == "shape-counts":
        return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
    files = [file for file in folder.iterdir() if file.suffix in (".json", ".jsonl", ".tsv") or file.name == "train.lst"]
    brackets = 2 * sum(file.read_bytes().startswith((b"[\n", b"{\n")) for file in files)
    return num_lines(*files) - brackets


def test_same_seed_gives_same_bytes_and_mends_what_was_changed(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "upstream"
    shutil.copytree(world.folder, folder)
    (folder / "scenes/scenes.json").write_text("[]")
    (folder / "scenes/stale.json").write_text("[]")
    untouched = folder / "chart-quiz/train.json"
    before = untouched.stat().st_mtime_ns
    planted = generate(folder)
    assert tree(folder) == tree(world.folder)
    assert planted.to_json() == world.planted.to_json()
    assert untouched.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["word-sums", "circuits"])
def test_another_seed_gives_another_source_and_scale_more_of_it(name: str) -> None:
    made = {}
    for seed, scale in ((0, 1), (1, 1), (0, 2)):
        upstream = Upstream(name, seed=seed, scale=scale)
        SOURCES[name](upstream)
        made[seed, scale] = upstream
    assert made[0, 1].files != made[1, 1].files
    assert made[0, 1].planted.rejected == made[0, 2].planted.rejected
    assert made[0, 2].planted.samples > made[0, 1].planted.samples * 3 // 2


def test_scale_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale is 0"):
        generate(tmp_path, scale=0)


def test_ledger_file_holds_the_ledger(world: World) -> None:
    written = json.loads((world.folder / LEDGER_NAME).read_bytes())
    planted = world.planted
    assert list(written["sources"]) == list(SOURCES)
    assert written["totals"]["records"] == planted.records == sum(source["records"] for source in written["sources"].values())
    assert written["totals"]["rejected"] == {reason.value: count for reason, count in planted.rejected.items()}
    assert planted.kept == planted.samples - sum(planted.dropped.values())


@pytest.mark.parametrize("name", SOURCES)
def test_ledger_counts_the_records_in_the_files(world: World, name: str) -> None:
    source = world.planted.sources[name]
    assert source.records == source.samples + sum(source.rejected.values())
    assert num_records(world.folder / name) == source.records


@pytest.mark.parametrize("name", SOURCES)
def test_ingestion_finds_what_was_planted(world: World, name: str, tmp_path: Path) -> None:
    planted = world.planted.sources[name]
    ingested = Ingest(world.catalog, world.catalog.source(name)).run(Store.open(str(tmp_path)), InProcessPool())
    counts = ingested.manifest["counts"]
    assert counts["rejected"] == dict(planted.rejected)
    assert (counts["records"], counts["samples"]) == (planted.records, planted.samples)
    rows = pl.concat([pl.read_parquet(path) for path in ingested.files("samples")]).to_dicts()
    said = Counter(len(row["images"]) for row in rows)
    assert said == Counter(len(key.pixels) for key in planted.keys)


def test_world_is_as_large_as_a_demo_should_be(world: World) -> None:
    assert 14 <= len(SOURCES) <= 18
    assert 900 <= world.planted.records <= 1_200
    assert sum(path.stat().st_size for path in world.folder.rglob("*") if path.is_file()) < 16 << 20


def test_every_reject_reason_is_planted(world: World) -> None:
    # A whole file that cannot be read would hide how many records were meant to be in it; no picture here kills a decoder.
    unplanted = {RejectReason.UNREADABLE_FILE, RejectReason.CRASHED_DECODER}
    assert {reason for reason, count in world.planted.rejected.items() if count} == set(RejectReason) - unplanted


def test_duplicates_are_planted_within_and_between_sources(world: World) -> None:
    planted = world.planted
    within = {name: source.duplicates_within for name, source in planted.sources.items() if source.duplicates_within}
    assert len(within) >= 6
    assert planted.duplicates_between == {
        "phrasebook + small-talk": 3,
        "scenes + relations": 4,
        "table-sums + chart-quiz": 3,
    }
    assert planted.dropped == {
        DropReason.CONTAMINATED: 6,
        DropReason.EXACT_DUPLICATE: sum(within.values()) + 10,
        DropReason.NO_WORDS: 1,
    }
    assert planted.same_image_other_text > 50
    assert planted.same_text_other_image > 50
    assert sum(source.lying_extensions for source in planted.sources.values()) > 20


def test_benchmarks_lie_in_files_and_in_some_sources(world: World, tmp_path: Path) -> None:
    assert set(world.catalog.benchmarks) == set(BENCHMARKS)
    for name, row in world.catalog.benchmarks.items():
        counts = Ingest(world.catalog, row).run(Store.open(str(tmp_path)), InProcessPool()).manifest["counts"]
        assert (counts["records"], counts["samples"]) == (12, 12), name
    leaking = {name: source.from_exams for name, source in world.planted.sources.items() if source.from_exams}
    assert leaking == {"shape-counts": 3, "word-sums": 3}


def test_catalog_lists_the_world_and_its_counts(world: World) -> None:
    assert set(world.catalog.sources) == set(SOURCES)
    for name in SOURCES:
        assert world.catalog.source(name).expected.records == world.planted.sources[name].records, name
        for part in world.catalog.source(name).parts:
            assert world.catalog.root_of(part) == (world.folder / name).resolve()


def test_catalog_uses_everything_it_can_say_about_the_demo(world: World) -> None:
    parts = [part for name in SOURCES for part in world.catalog.source(name).parts]
    images = [part.images for part in parts if part.images]
    assert {world.catalog.source(name).category for name in SOURCES} == set(Category)
    assert {part.layout for part in parts} == set(Layout)
    assert {part.reader.format for part in parts} == {"json", "delimited", "parquet", "webdataset"}
    assert {part.reader.records for part in parts} == {"many", "one"}
    assert {join.format for part in parts for join in part.join.values()} >= {"json", "lines", "table"}
    assert {part.answer_as for part in parts if part.layout is Layout.MULTIPLE_CHOICE} == {"letter", "index", "text"}
    assert {part.respond for part in parts} == {"letter", "text"}
    for place in ("folder", "zip", "tar", "bytes", "members", "count", "marker"):
        assert any(getattr(image, place) is not None for image in images), place
    assert any(image.optional for image in images)
    assert any(image.add_markers for image in images)


@pytest.mark.parametrize("keeper", [0, 1])
def test_demo_mixture_asks_for_what_the_world_can_give(world: World, keeper: int) -> None:
    mixture = load_mixture(REPOSITORY / "mixtures/demo.yaml", world.catalog)
    assert set(participants(mixture, world.catalog.sources)) == set(SOURCES)
    assert set(mixture.shares() or ()) == set(Category)
    sources = world.planted.sources.items()
    available = {
        name: source.samples - source.duplicates_within - source.no_words - source.from_exams for name, source in sources
    }
    for pair, count in world.planted.duplicates_between.items():
        available[pair.split(" + ")[1 - keeper]] -= count
    planned = plan(mixture, available, {name: world.catalog.source(name).category for name in SOURCES})
    assert sum(available.values()) == world.planted.kept
    assert planned.total == mixture.size == 720
    repeated = {name for name, quota in planned.quotas.items() if quota.repeat > 1}
    assert repeated == {"shape-counts", "box-claims"}
