"""Encodings that keep pixels keep them; broken files are broken in the way they claim."""

import io
from random import Random

import pytest
from PIL import Image

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.imaging import examine
from flows.demo import pictures
from flows.demo.charts import bar_chart
from flows.demo.pictures import bomb, cut, gif, jpeg, palette_png, png, true_extension, web_page, webp
from flows.demo.planted import pixel_hash

IMAGE = bar_chart(Random(1)).image


@pytest.mark.parametrize("data", [png(IMAGE, level=0), png(IMAGE, level=9), palette_png(IMAGE), webp(IMAGE)])
def test_lossless_encodings_differ_in_bytes_only(data: bytes) -> None:
    assert data != png(IMAGE)
    assert pixel_hash(data) == pixel_hash(png(IMAGE))


def test_palette_of_too_many_colours_is_refused() -> None:
    noise = Image.frombytes("RGB", (40, 40), Random(1).randbytes(4_800))
    with pytest.raises(ValueError, match="256 colours"):
        palette_png(noise)


@pytest.mark.parametrize("encode", [png, jpeg, webp, gif])
def test_extension_follows_the_encoding(encode: object) -> None:
    assert callable(encode)
    assert true_extension(encode(IMAGE)) == {"jpeg": "jpg"}.get(encode.__name__, encode.__name__)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (cut(png(IMAGE)), RejectReason.TRUNCATED_IMAGE),
        (cut(jpeg(IMAGE)), RejectReason.TRUNCATED_IMAGE),
        (web_page(), RejectReason.UNREADABLE_IMAGE),
        (bomb(30_000, 30_000), RejectReason.IMAGE_TOO_LARGE),
    ],
)
def test_broken_files_are_refused_for_their_reason(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Unusable) as refused:
        examine(data, max_pixels=100_000_000)
    assert refused.value.reason is reason


def test_bomb_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = bomb(30_000, 20_000)
    assert len(data) < 200
    assert Image.open(io.BytesIO(data)).size == (30_000, 20_000)


def test_article_fits_the_word() -> None:
    assert [pictures.article(word) for word in ("orange", "red")] == ["an", "a"]
