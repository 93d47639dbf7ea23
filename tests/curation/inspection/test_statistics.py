import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.spec import Catalog
from curation.inspection.statistics import EMPTY, KEYS, OF_SAMPLES, QUANTILES, Piece, pieces, statistics, summary, tally
from curation.runtime.frames import summed
from curation.storage.store import Store, write_table
from curation.tables import SAMPLES
from tests.support.upstream import ingest, rows


@given(values=st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_a_summary_is_that_of_the_values_themselves(values: list[int]):
    found, counts = np.unique(np.array(values), return_counts=True)
    said = summary(found, counts)
    in_order = sorted(values)
    assert (said["count"], said["min"], said["max"]) == (len(values), in_order[0], in_order[-1])
    assert said["mean"] == pytest.approx(sum(values) / len(values), abs=0.01)
    for q in QUANTILES:
        assert said[f"p{round(q * 100):02d}"] == np.quantile(values, q, method="inverted_cdf")


def test_statistics_are_those_of_the_samples(world: Catalog, store: Store):
    artefacts = {name: ingest(world, name, store) for name in world.sources}
    histograms = summed(pieces({name: one.files("samples") for name, one in artefacts.items()}), tally, EMPTY, KEYS)
    found = statistics(histograms, {name: source.category.value for name, source in world.sources.items()})
    for name, artefact in artefacts.items():
        samples = rows(artefact, "samples")
        assert found["sources"][name]["samples"] == len(samples)
        for measure in OF_SAMPLES[:3]:
            entry = found["sources"][name][measure]
            assert (entry["min"], entry["max"]) == (samples[measure].min(), samples[measure].max())
            assert entry["p50"] == samples[measure].quantile(0.5, interpolation="lower") or len(samples) % 2 == 0
    everything = pl.concat([rows(artefact, "samples") for artefact in artefacts.values()])
    cells = sum(np.array(table) for table in found["crosstab"]["samples"].values())
    assert cells.sum() == len(everything)
    assert cells[1].sum() == (everything["num_images"] == 1).sum()
    assert found["categories"]["math"]["samples"] == sum(found["sources"][name]["samples"] for name in ("sums", "copied-sums"))
    assert found["sources"]["shapes"]["picture_width"]["p50"] == 5
    assert "picture_width" not in found["sources"]["chats"]


def made_up(folder: Path, number: int) -> Path:
    """A file of samples with two turns and no pictures."""
    tokens = np.random.default_rng(3).integers(1, 400, number).astype(np.int32)
    columns = {
        "sample_id": [f"a-{place:024x}" for place in range(number)],
        "source": ["a"] * number,
        "conversations": [[{"from": "human", "value": "q " * 20}, {"from": "gpt", "value": "a"}]] * number,
        "images": pa.array([[]] * number, SAMPLES.field("images").type),
        "num_images": np.zeros(number, np.int32),
        "num_turns": np.full(number, 2, np.int32),
        "num_tokens": tokens,
        "num_text_bytes": tokens * 5,
        "origin_file": ["f"] * number,
        "origin_position": np.arange(number),
        "origin_id": [None] * number,
        "annotation_file": [None] * number,
    }
    path = folder / "samples-00000.parquet"
    write_table(path, pa.table({name: columns[name] for name in SAMPLES.names}, schema=SAMPLES))
    return path


def test_any_partition_gives_the_same(tmp_path: Path):
    path = made_up(tmp_path, 120_000)
    whole = summed(pieces({"a": [path]}), tally, EMPTY, KEYS)
    assert len(pieces({"a": [path]})) == 1
    cut = []
    for number in range(7):
        cut.append(tmp_path / f"part-{number}.parquet")
        pq.write_table(pq.read_table(path).slice(number * 20_000, 20_000), cut[-1], row_group_size=3_000)
    for order in (cut, cut[::-1]):
        assert whole.equals(summed(pieces({"a": order}), tally, EMPTY, KEYS))
    assert statistics(whole, {"a": "math"})["sources"]["a"]["samples"] == 120_000


def test_nothing_gives_nothing():
    assert statistics(summed([], tally, EMPTY, KEYS), {}) == {
        "sources": {}, "categories": {}, "crosstab": statistics(EMPTY, {})["crosstab"],
    }  # fmt: skip


_UNDER_A_LIMIT = """
import resource, sys
import pyarrow.parquet as pq
import curation.runtime.frames, curation.inspection.statistics as s
from pathlib import Path
curation.runtime.frames.summed(s.pieces({"a": [sys.argv[1]] * 4}), s.tally, s.EMPTY, s.KEYS)  # threads and late imports
files = [Path(sys.argv[1])] * int(sys.argv[2])
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData:")) << 10
limit = used + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
if sys.argv[4] == "whole":
    tables = [pq.ParquetFile(path).read(columns=list(s.OF_SAMPLES)) for path in files]
    sys.exit(f"held {sum(table.nbytes for table in tables):,} bytes")
found = s.statistics(curation.runtime.frames.summed(s.pieces({"a": files}), s.tally, s.EMPTY, s.KEYS), {"a": "math"})
print(found["sources"]["a"]["samples"])
"""


def under_a_limit(path: Path, copies: int, allowed_bytes: int, how: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CURATION_RUNTIME": "process", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", _UNDER_A_LIMIT, str(path), str(copies), str(allowed_bytes), how]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the data segment as Linux does")
def test_memory_stays_far_below_the_data(tmp_path: Path):
    """The numbers that are read are six times what the process may still take; held at once, they do not fit."""
    number, copies, allowed = 100_000, 128, 32 << 20
    path = made_up(tmp_path, number)
    assert 4 * len(OF_SAMPLES) * number * copies > 6 * allowed
    found = under_a_limit(path, copies, allowed, "in pieces")
    assert found.stdout.strip() == str(number * copies), found.stderr[-2_000:]
    whole = under_a_limit(path, copies, allowed, "whole")
    assert whole.returncode != 0
    assert "held" not in whole.stderr


def test_a_piece_names_its_source(tmp_path: Path):
    path = made_up(tmp_path, 10)
    assert set(tally(Piece(4, str(path)))["source"]) == {4}
