"""Judging samples one by one, and the normal form in which their text is compared.

Normalisation is for comparing only; what is stored and trained on stays as published.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import polars as pl

from curation.errors import DropReason
from curation.format_prompts import PAPER_PROMPTS
from curation.shard_format import IMAGE_MARKER

_NOTHING_TO_READ = r"^[\s\p{C}\p{Z}]*$"
_MORE_THAN_SPACES = r"\s\s|[^\S ]"
_DIGEST_BYTES = 16


def normalised(turns: pl.Series, prompts: Iterable[str] = ()) -> pl.Series:
    """`turns` in the form in which they are compared: NFKC, lower case, single spaces; markers and format prompts removed.

    Nothing depends on the script: letters outside ASCII stay what they are.
    """
    text = turns.str.replace_all(IMAGE_MARKER, " ", literal=True)
    # Each mending costs more than finding the few texts that need it.
    text = _mended(text, text.str.len_bytes() != text.str.len_chars(), lambda some: some.str.normalize("NFKC"))
    text = _single_spaced(text.str.to_lowercase())
    told = sorted({_normal_prompt(prompt) for prompt in (*PAPER_PROMPTS, *prompts)} - {""}, key=len, reverse=True)
    text = _mended(text, text.str.contains_any(told), lambda some: _single_spaced(_without(some, told)))
    return text.str.strip_chars()


def _mended(text: pl.Series, needs: pl.Series, mend: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """`text` with `mend` applied where it `needs` it."""
    needs = needs.fill_null(False)
    if not needs.any():
        return text
    mended = mend(text.filter(needs))
    places = (needs.cum_sum().cast(pl.Int64) - 1).clip(0)
    return mended.gather(places).zip_with(needs, text)


def _single_spaced(text: pl.Series) -> pl.Series:
    return _mended(text, text.str.contains(_MORE_THAN_SPACES), lambda some: some.str.replace_all(r"\s+", " "))


def _without(text: pl.Series, prompts: Iterable[str]) -> pl.Series:
    for prompt in prompts:
        text = text.str.replace_all(prompt, "", literal=True)
    return text


def _normal_prompt(prompt: str) -> str:
    text = pl.Series([prompt]).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return str(text[0])


def judged(answers: pl.DataFrame) -> pl.DataFrame:
    """Columns row, reason for rows that are dropped by themselves. `answers` has columns row and text, one answer each."""
    empty = answers.filter(pl.col("text").str.contains(_NOTHING_TO_READ))
    return empty.select("row", reason=pl.lit(DropReason.NO_WORDS.value)).unique("row", maintain_order=True)


def text_keys(turns: Sequence[Sequence[str]]) -> list[bytes]:
    """A 16-byte key for each sample's turns: equal where all turns are equal."""
    return [_digest("\x1e".join(said)) for said in turns]


def image_keys(pixel_hashes: Sequence[Sequence[str]]) -> list[bytes]:
    """A 16-byte key for each sample's pictures in order: equal where all show the same pixels; zeros without pictures."""
    return [_digest("".join(shown)) if len(shown) else bytes(_DIGEST_BYTES) for shown in pixel_hashes]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
