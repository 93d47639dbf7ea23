"""Judging samples one by one, and the normal form in which their text is compared.

Normalisation is for comparing only; what is stored and trained on stays as published.
"""

import hashlib
from collections.abc import Iterable, Sequence

import polars as pl

from curation.errors import DropReason
from curation.format_prompts import PAPER_PROMPTS
from curation.shard_format import IMAGE_MARKER

_NOTHING_TO_READ = r"^[\s\p{C}\p{Z}]*$"
_DIGEST_BYTES = 16


def normalised(turns: pl.Series, prompts: Iterable[str] = ()) -> pl.Series:
    """`turns` in the form in which they are compared: NFKC, lower case, single spaces; markers and format prompts removed.

    Nothing depends on the script: letters outside ASCII stay what they are.
    """
    text = turns.str.replace_all(IMAGE_MARKER, " ", literal=True).str.normalize("NFKC").str.to_lowercase()
    text = text.str.replace_all(r"\s+", " ")
    for prompt in sorted({_normal_prompt(prompt) for prompt in (*PAPER_PROMPTS, *prompts)}, key=len, reverse=True):
        text = text.str.replace_all(prompt, "", literal=True)
    return text.str.replace_all(r"\s+", " ").str.strip_chars()


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
