"""Which image members samples may have (`png`, `0.jpg`, `1.jpg`, ...): the columns that loaders which need a schema see.

Read from one nested column of the sources' sample tables, a batch at a time, so memory does not grow with the sources.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_COLUMN = "images.list.element.extension"
_BATCH_ROWS = 65_536


def image_members(source_folders: Sequence[Path]) -> list[str]:
    """Member names behind `<key>.` over all samples of the sources: the plain ones first, then by number."""
    found: set[tuple[int, str]] = set()
    for folder in source_folders:
        for path in sorted(folder.glob("samples-*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=[_COLUMN]):
                    found.update(_numbered(batch.column("images")))
    return [extension if number < 0 else f"{number}.{extension}" for number, extension in sorted(found)]


def _numbered(images: pa.ListArray) -> Iterator[tuple[int, str]]:
    """Pairs (place, extension) that occur; the place is -1 for a sample's only image, which has no number in its name."""
    counts = images.value_lengths().fill_null(0).to_numpy()
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    places[np.repeat(counts, counts) == 1] = -1
    extensions = images.flatten().field("extension").dictionary_encode()
    names = extensions.dictionary.to_pylist()
    pairs = np.unique(np.stack([places, extensions.indices.fill_null(-1).to_numpy()], axis=1), axis=0)
    # Pictures that are known by reference only have no extension yet, and stand in no shard.
    return ((int(place), names[code]) for place, code in pairs if code >= 0)
