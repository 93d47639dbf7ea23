"""Releases are read by libraries that know nothing of us."""

import gc
import io
import json
from collections.abc import Iterator

import polars as pl
import pytest
from PIL import Image

from tests.end_to_end.conftest import Built

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def files_that_others_leave_open() -> Iterator[None]:
    """Readers leave shards to the garbage collector; collect them while their warnings are ignored."""
    yield
    gc.collect()


def decoded(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.size


def test_webdataset_reads_every_sample_and_picture(built: Built) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted((built.release / "shards").glob("*.tar"))]
    index = pl.read_parquet(built.release / "index.parquet")
    keys = []
    for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
        record = json.loads(sample["json"])
        keys.append((record["source"], sample["__key__"]))
        assert record["id"] == sample["__key__"]
        for image in record["images"]:
            assert decoded(sample[image["name"]]) == (image["width"], image["height"])
    stated = [(row["source"], row["sample_id"] + (f"-r{row['repeat']}" if row["repeat"] else "")) for row in index.to_dicts()]
    assert keys == stated


def test_datasets_reads_every_sample_and_picture(built: Built, tmp_path, monkeypatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    datasets = pytest.importorskip("datasets")
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(built.release), split="train", cache_dir=cache)
    shards = [str(path) for path in sorted((built.release / "shards").glob("*.tar"))]
    by_builder = datasets.load_dataset(
        "webdataset", data_files={"train": shards}, features=loaded.features, split="train", cache_dir=cache
    )
    num_samples = pl.read_parquet(built.release / "index.parquet").height
    assert len(loaded) == len(by_builder) == num_samples
    for row in loaded:
        for image in row["json"]["images"]:
            assert row[image["name"]].size == (image["width"], image["height"])
