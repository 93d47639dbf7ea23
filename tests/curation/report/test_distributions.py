from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.report.distributions import Histogram, histograms
from curation.shard_format import INDEX_NAME
from curation.storage.store import write_table


def made(folder: Path, rows: list[tuple[int, int, int]]) -> dict[str, Histogram]:
    columns = [pa.array(list(column), pa.int64()) for column in zip(*rows, strict=True)] or [pa.array([], pa.int64())] * 3
    write_table(folder / INDEX_NAME, pa.table(columns, ["num_tokens", "num_images", "num_bytes"]))
    return {histogram.title: histogram for histogram in histograms(folder)}


@given(rows=st.lists(st.tuples(*[st.integers(0, 10**8)] * 3), min_size=1, max_size=30))
def test_every_sample_is_in_one_bar_of_each(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]):
    for histogram in made(tmp_path_factory.mktemp("index"), rows).values():
        assert sum(bar.num for bar in histogram.bars) == len(rows)
        assert max(bar.part for bar in histogram.bars) == 1
        assert histogram.bars[0].num and histogram.bars[-1].num
        assert len({bar.label for bar in histogram.bars}) == len(histogram.bars)


def test_bars_say_their_range(tmp_path: Path):
    found = made(tmp_path, [(7, 0, 999), (8, 1, 1_000), (9_000, 30, 400_000), (20, 1, 20_000_000)])
    tokens, images, size = found.values()
    assert [bar.label for bar in tokens.bars if bar.num] == ["0 to 7", "8 to 15", "16 to 31", "8,192 or more"]
    assert [bar.label for bar in images.bars if bar.num] == ["0", "1", "17 or more"]
    assert [bar.label for bar in size.bars if bar.num] == ["below 1 kB", "1 to 3 kB", "300 kB to 1 MB", "10 MB or more"]
    assert (tokens.middle, tokens.largest) == ("8", "9,000") or tokens.middle == "20"


def test_an_empty_release_has_none(tmp_path: Path):
    assert made(tmp_path, []) == {}
