"""Sets of n-grams on disk: Arrow files that are mapped into memory, so that any item's set is read without the others."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.dedup.shingles import ShingleSets
from curation.storage.store import replacing
from curation.tables import SHINGLES

SHINGLES_SUFFIX = ".arrow"


def write_shingles(path: Path, sets: ShingleSets) -> None:
    """Write the sets to `path`, whole or not at all. `number_keys` are not part of it."""
    lists = pa.LargeListArray.from_arrays(pa.array(sets.edges), pa.array(sets.values))
    batch = pa.record_batch([lists, pa.array(sets.set_keys)], schema=SHINGLES)
    with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SHINGLES) as writer:
        writer.write_batch(batch)


def read_shingles(path: Path) -> ShingleSets:
    """The sets in `path`; pages are read when they are touched. `number_keys` are zeros."""
    with pa.memory_map(str(path)) as mapped:
        batch = pa.ipc.open_file(mapped).get_batch(0)
    lists, keys = batch.column("shingles"), batch.column("set_key")
    edges = np.frombuffer(lists.buffers()[1], np.int64, len(lists) + 1)
    values = lists.values.to_numpy()
    return ShingleSets(edges, values, keys.to_numpy(), np.zeros(len(keys), np.uint64))
