from itertools import pairwise

import polars as pl
import pytest

from curation.errors import ShardError
from curation.report.chosen_samples import choose_positions, read_chosen

SHARDS = ["tiny-000000.tar", "tiny-000001.tar"]


def _sources(**counts: int) -> pl.Series:
    return pl.Series([name for name, num in counts.items() for _ in range(num)], dtype=pl.String)


def test_picks_are_even_over_sources_and_none_is_forgotten():
    sources = _sources(large=900, middle=80, small=3)

    picked = sources.gather(choose_positions(sources, 0, limit=30)).value_counts()

    assert dict(picked.iter_rows()) == {"large": 14, "middle": 13, "small": 3}


def test_more_sources_than_the_limit_get_one_each():
    sources = _sources(**{f"s{number}": 4 for number in range(20)})

    assert sources.gather(choose_positions(sources, 0, limit=5)).n_unique() == 20


def test_picks_spread_over_the_stream_without_repeating():
    positions = choose_positions(_sources(one=1_000), 3, limit=10)

    assert len(set(positions)) == 10 and positions == sorted(positions)
    assert all(95 <= after - before <= 105 for before, after in pairwise(positions))


@pytest.mark.parametrize("counts", [{}, {"one": 1}, {"one": 7, "two": 60}])
def test_small_releases_are_shown_whole(counts):
    assert choose_positions(_sources(**counts), 0, limit=100) == list(range(sum(counts.values())))


def test_seed_moves_the_picks():
    sources = _sources(one=100_000)

    assert choose_positions(sources, 1) == choose_positions(sources, 1) != choose_positions(sources, 2)


def test_chosen_samples_are_those_of_the_shards(made_up):
    shown = read_chosen(made_up.folder, SHARDS, seed=0)

    assert [sample.position for sample in shown] == list(range(7))
    assert [sample.source for sample in shown] == ["shapes", "words", "words", "shapes", "words", "shapes", "words"]
    assert [sample.shard for sample in shown] == [SHARDS[0]] * 4 + [SHARDS[1]] * 3
    assert shown[4].key == f"{shown[1].key}-r1"
    assert [len(sample.thumbnails) for sample in shown] == [1, 0, 0, 2, 0, 1, 0]
    assert shown[3].turns[0].text.head == ("", "", "Which is blue?")
    assert (shown[0].license, shown[1].license) == ("CC0-1.0", "unknown")


def test_an_index_out_of_step_with_its_shards_is_refused(made_up):
    index = pl.read_parquet(made_up.folder / "index.parquet")
    index.with_columns(offset_bytes=pl.col("offset_bytes") + 512).write_parquet(made_up.folder / "index.parquet")

    with pytest.raises(ShardError, match=r"tiny-000000\.tar.*build it again"):
        read_chosen(made_up.folder, SHARDS, seed=0)
