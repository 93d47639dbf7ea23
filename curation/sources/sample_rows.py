"""Samples as Arrow rows: building the tables of `curation.tables` from turns and facts about pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from curation.sources.records import Reject
from curation.tables import IMAGE, REJECTED, ROLES, SAMPLES, TURN, Int64s, content_ids, record_id, string_offsets

_LAST_SPACE = 32  # in UTF-8 and ASCII, white space and control signs come before all others


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each sample of a table was found: file (relative to the source's root), position in it, upstream id."""

    files: Sequence[str]
    positions: Sequence[int]
    ids: Sequence[str | None]


def sample_table(
    source: str, turns: Sequence[Sequence[str]], images: Sequence[Sequence[Mapping[str, Any]]] | None, origins: Origins
) -> pa.Table:
    """Rows of SAMPLES, one for each entry of `turns`; ids are by content and may repeat within a source.

    `images` is None for a source without pictures.
    """
    flat = pa.array(list(chain.from_iterable(turns)), pa.string())
    counts = np.fromiter(map(len, turns), np.int64, len(turns))
    ends = np.concatenate([[0], np.cumsum(counts)])
    shown = None if images is None else ["".join(image["sha256"] for image in seen) for seen in images]
    num_images = np.zeros(len(turns), np.int32) if images is None else np.fromiter(map(len, images), np.int32, len(images))
    columns = [
        content_ids(source, flat, ends, shown),
        pa.repeat(source, len(turns)),
        _conversations(flat, counts, ends),
        _no_images(len(turns)) if images is None else pa.array(images, pa.list_(IMAGE)),
        pa.array(num_images),
        pa.array(counts.astype(np.int32)),
        _sums(_num_words(flat), ends),
        _sums(np.diff(string_offsets(flat)), ends),
        pa.array(origins.files, pa.string()),
        pa.array(origins.positions, pa.int64()),
        pa.array(origins.ids, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SAMPLES)


def _no_images(length: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.zeros(length + 1, np.int32)), pa.array([], IMAGE))


def _conversations(flat: pa.StringArray, counts: Int64s, ends: Int64s) -> pa.ListArray:
    places = np.arange(len(flat)) - np.repeat(ends[:-1], counts)
    roles = pa.array(ROLES).take(pa.array(places % 2))
    structs = pa.StructArray.from_arrays([roles, flat], fields=list(TURN))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), structs)


def _num_words(texts: pa.StringArray) -> Int64s:
    """Words between ASCII white space, counted over all texts' bytes at once: a word starts where white space ends."""
    offsets = string_offsets(texts)
    data = texts.buffers()[2]
    if data is None or not len(texts):
        return np.zeros(len(texts), np.int64)
    is_word = np.frombuffer(data, np.uint8, offsets[-1]) > _LAST_SPACE
    starts = np.empty(len(is_word), np.bool_)
    starts[:1] = is_word[:1]
    np.greater(is_word[1:], is_word[:-1], out=starts[1:])
    has_text = np.diff(offsets) > 0
    first = offsets[:-1][has_text]
    starts[first] = is_word[first]
    words = np.zeros(len(texts), np.int64)
    words[has_text] = np.add.reduceat(starts.view(np.uint8), first, dtype=np.int64)
    return words


def _sums(values: Int64s, ends: Int64s) -> pa.Array:
    """Sums of `values` over each sample's turns."""
    running = np.concatenate([[0], np.cumsum(values)])
    return pa.array((running[ends[1:]] - running[ends[:-1]]).astype(np.int32))


def rejected_table(source: str, rejects: Iterable[Reject]) -> pa.Table:
    """Rows of REJECTED."""
    rows = [
        {
            "record_id": record_id(source, reject.file, reject.position),
            "source": source,
            "origin_file": reject.file,
            "origin_position": reject.position,
            "reason": reject.reason.value,
            "detail": reject.detail,
            "raw": reject.raw,
        }
        for reject in rejects
    ]
    return pa.Table.from_pylist(rows, schema=REJECTED)
