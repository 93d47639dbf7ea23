"""Hashed n-grams of words over whole columns, and how much of a benchmark's items they cover."""

import numpy as np
import numpy.typing as npt
import polars as pl
from xxhash import xxh3_64_intdigest

from curation.tables import mix_bits

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[{_SPACELESS}]|[[\p{{L}}\p{{N}}\p{{M}}]--[{_SPACELESS}]]+"
"""A run of letters, digits and marks; in scripts without spaces each sign is a word."""

MIN_TEMPLATE_ITEMS = 3


def ngrams(texts: pl.Series, size: int) -> pl.DataFrame:
    """Columns row (of `texts`, which are normalised), gram: each n-gram of `size` words once a row. Short texts have none."""
    words = texts.str.extract_all(_WORD)
    lengths = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = words.explode().drop_nulls()
    distinct = flat.unique(maintain_order=True)
    codes = pl.DataFrame({"word": distinct, "code": _codes(distinct)})
    hashes = pl.DataFrame({"word": flat}).join(codes, on="word", how="left", maintain_order="left")["code"].to_numpy()
    rows = np.repeat(np.arange(len(texts)), lengths)
    if len(hashes) < size:
        return pl.DataFrame(schema={"row": pl.Int64, "gram": pl.UInt64})
    num = len(hashes) - size + 1
    grams = np.zeros(num, np.uint64)
    for place in range(size):
        grams = mix_bits(grams * np.uint64(3) + hashes[place : place + num])
    is_within = rows[:num] == rows[size - 1 :]
    return pl.DataFrame({"row": rows[:num][is_within], "gram": grams[is_within]}).unique(maintain_order=True)


def _codes(words: pl.Series) -> npt.NDArray[np.uint64]:
    return np.fromiter((xxh3_64_intdigest(word.encode()) for word in words.to_list()), np.uint64, len(words))


def without_templates(grams: pl.DataFrame, num_items: int, share: float) -> pl.DataFrame:
    """Rows of `grams` (columns row, gram) but for n-grams that more than `share` of the items have, and at least 3 have."""
    limit = max(MIN_TEMPLATE_ITEMS - 1, int(share * num_items))
    common = grams.group_by("gram").len().filter(pl.col("len") > limit)
    return grams.join(common, on="gram", how="anti", maintain_order="left")


def covers(samples: pl.DataFrame, items: pl.DataFrame, at_least: float) -> pl.DataFrame:
    """Columns row, item, cover for every sample (columns row, gram) that has `at_least` this share of an item's n-grams.

    `items` has columns item, gram, each pair once.
    """
    sizes = items.group_by("item").agg(num_grams=pl.len())
    shared = samples.join(items, on="gram").unique(["row", "item", "gram"]).group_by("row", "item").agg(num_shared=pl.len())
    measured = shared.join(sizes, on="item").select("row", "item", cover=pl.col("num_shared") / pl.col("num_grams"))
    return measured.filter(pl.col("cover") >= at_least).sort("row", "item")
