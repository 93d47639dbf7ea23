import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.thumbnail import CHROMA_SIDE, LUMA_SIDE, NEUTRAL, THUMBNAIL_BYTES, thumbnail_of

SIZES = [(1, 1), (1, 1_000), (1_000, 1), (3, 2), (16, 16), (100, 60), (128, 128), (257, 300), (560, 420), (1_023, 770)]


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] of soft spots and a little noise."""
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(spots).astype(int) + rng.integers(-5, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def parts(packed: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(packed, np.uint8).astype(int)
    assert len(rows) == THUMBNAIL_BYTES
    return rows[: LUMA_SIDE**2].reshape(LUMA_SIDE, LUMA_SIDE), rows[LUMA_SIDE**2 :].reshape(2, CHROMA_SIDE, CHROMA_SIDE)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_near_what_pillow_makes_of_the_whole_picture(size: tuple[int, int]):
    """Pillow's filters are narrower by a tenth, and the boxes of its colours do not share cells."""
    pixels = noise(*size)
    image = Image.fromarray(pixels)
    luma, chroma = parts(thumbnail_of(pixels))
    assert abs(luma - np.asarray(image.convert("L").resize((LUMA_SIDE, LUMA_SIDE), Image.Resampling.BILINEAR))).mean() < 1.5
    if min(size) >= 8 * CHROMA_SIDE:
        small = np.asarray(image.resize((CHROMA_SIDE, CHROMA_SIDE), Image.Resampling.BOX).convert("YCbCr")).astype(int)
        assert abs(chroma - small.transpose(2, 0, 1)[1:]).mean() < 1


@given(st.integers(1, 700), st.integers(1, 700), st.tuples(*[st.integers(0, 255)] * 3))
def test_one_colour_stays_that_colour_in_every_cell(width: int, height: int, colour: tuple[int, int, int]):
    pixels = np.full((height, width, 3), colour, np.uint8)
    luma, chroma = parts(thumbnail_of(pixels))
    expected = Image.fromarray(pixels[:1, :1]).convert("YCbCr").getpixel((0, 0))
    assert isinstance(expected, tuple)
    assert np.ptp(luma) == 0
    for found, level in zip((luma, *chroma), expected, strict=True):
        assert abs(found - level).max() <= 1


def test_grey_has_no_colour_and_the_luma_of_its_rgb_copy():
    grey = noise(300, 200)[..., 0]
    luma, chroma = parts(thumbnail_of(grey))
    assert (chroma == NEUTRAL).all()
    in_colour, its_chroma = parts(thumbnail_of(np.repeat(grey[..., None], 3, axis=2)))
    assert abs(luma - in_colour).max() <= 1
    assert (its_chroma == NEUTRAL).all()


def test_pixels_that_do_not_lie_in_one_block_count_the_same():
    pixels = noise(300, 200)
    strided = np.concatenate([pixels, pixels], axis=2)[..., :3]
    assert not strided.flags.c_contiguous
    assert thumbnail_of(strided) == thumbnail_of(pixels)
    assert pixels.flags.writeable, "the caller's array stays as it was"


def test_half_and_double_sizes_come_out_alike():
    image = Image.fromarray(noise(640, 480))
    luma, _ = parts(thumbnail_of(np.asarray(image)))
    for size in ((320, 240), (1_280, 960)):
        other, _ = parts(thumbnail_of(np.asarray(image.resize(size, Image.Resampling.LANCZOS))))
        assert abs(luma - other).mean() < 1


def test_a_very_wide_picture_takes_no_more_memory_than_a_wide_one():
    pixels = np.zeros((2, 1_000_000, 3), np.uint8)
    pixels[:, 500_000:] = (255, 0, 0)
    luma, chroma = parts(thumbnail_of(pixels))
    assert (luma[:, : LUMA_SIDE // 2 - 1] == 0).all()
    assert (luma[:, LUMA_SIDE // 2 + 1 :] == 76).all()
    assert (chroma[1, :, : CHROMA_SIDE // 2] == NEUTRAL).all()
    assert (chroma[1, :, CHROMA_SIDE // 2 :] == 255).all()
