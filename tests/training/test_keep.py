import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.releases import TinySample, write_release
from training.errors import ConfigError, StreamError
from training.keep import read_ratios
from training.stream import MixtureStream, ShardStream, merge_states


def ids(samples):
    return [sample["id"] for sample in samples]


@pytest.fixture
def keep_list(tmp_path):
    path = tmp_path / "keep.parquet"
    pq.write_table(pa.table({"sample_id": ["s000005", "s000099", "s000042", "elsewhere"]}), path)
    return path


def test_a_keep_list_leaves_its_samples_and_exact_counts(release, keep_list):
    stream = ShardStream(release, keep=keep_list)
    assert len(stream) == stream.plan().num_samples == 3
    assert sorted(ids(stream)) == ["s000005", "s000042", "s000099"]
    assert [row["id"] for row in stream.describe_rows(stream.batch_rows(0, rank=0, world_size=1, batch_size=3))] == ids(stream)


def test_a_condition_on_index_columns_keeps_what_meets_it(release):
    kept = ShardStream(release, keep=(pc.field("shard") == 3) & (pc.field("num_images") == 0), shuffle=False)
    assert ids(kept) == [f"s{number:06d}" for number in range(30, 40)]


def test_resuming_knows_the_keep_list(release, keep_list):
    stream = ShardStream(release, keep=keep_list)
    first = next(iter(stream))["id"]
    resumed = ShardStream(release, keep=keep_list)
    resumed.load_state_dict(stream.state_dict())
    assert sorted([first, *ids(resumed)]) == ["s000005", "s000042", "s000099"]
    with pytest.raises(StreamError, match="saved with"):
        ShardStream(release).load_state_dict(stream.state_dict())
    assert merge_states([stream.state_dict()])["next"] == 1


@pytest.mark.parametrize("keep", ["nowhere.parquet", pc.field("colour") == 1, pc.field("source") > 3])
def test_an_unusable_keep_list_is_refused(release, keep):
    with pytest.raises(StreamError, match=r"nowhere.parquet': there is no such file|the condition"):
        ShardStream(release, keep=keep)


def test_a_keep_list_of_nothing_is_refused(release):
    with pytest.raises(StreamError, match="no sample is kept"):
        ShardStream(release, keep=pc.field("num_images") > 7)


@pytest.fixture
def two_categories(tmp_path):
    samples = [TinySample(sample_id=f"g{n:02d}") for n in range(40)]
    samples += [TinySample(sample_id=f"o{n:02d}", category="ocr") for n in range(10)]
    return write_release(tmp_path / "two", samples)


def test_categories_of_a_release_come_in_the_ratios_of_a_mixture(two_categories, tmp_path):
    (tmp_path / "even.yaml").write_text("name: even\nratios: {general: 0.5, ocr: 0.5}\n")
    stream = MixtureStream.of_ratios(two_categories, tmp_path / "even.yaml", num_samples=30)
    categories = [sample["category"] for sample in stream]
    for length in range(1, 31):
        assert abs(categories[:length].count("ocr") - length / 2) < 1


def test_ratios_must_name_the_categories(two_categories, tmp_path):
    (tmp_path / "wrong.yaml").write_text("ratios: {general: 0.5, math: 0.5}\n")
    with pytest.raises(ConfigError, match="weights are given for general, math; this mixture mixes general, ocr"):
        MixtureStream.of_ratios(two_categories, tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("ratios: {a: x}", "'a' is 'x'"), ("- 1", "no `ratios`"), ("a: [", "not valid YAML"), ("ratios: {a: -1}", "-1")],
)
def test_broken_mixture_files_are_named(tmp_path, text, problem):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_ratios(tmp_path / "m.yaml")
