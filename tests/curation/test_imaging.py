import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.imaging import ImageFacts, examine, on_white
from curation.thumbnail import THUMBNAIL_BYTES
from tests.support.upstream import encoded

LIMIT = 1_000_000
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8))
GREY = NOISE.convert("L").point(lambda level: level // 64 * 85)


def facts(image: Image.Image, encoding: str = "PNG", **options: object) -> ImageFacts:
    return examine(encoded(image, encoding, **options), max_pixels=LIMIT)


def reason(data: bytes, *, max_pixels: int = LIMIT) -> RejectReason:
    with pytest.raises(Unusable) as caught:
        examine(data, max_pixels=max_pixels)
    return caught.value.reason


@pytest.mark.parametrize(
    ("encoding", "options", "extension"),
    [
        ("PNG", {}, "png"),
        ("BMP", {}, "bmp"),
        ("WEBP", {"lossless": True}, "webp"),
        ("TIFF", {}, "tif"),
        ("TIFF", {"compression": "tiff_lzw"}, "tif"),
    ],
)
def test_equal_pixels_are_equal_in_any_encoding(encoding: str, options: dict, extension: str):
    found = facts(NOISE, encoding, **options)
    assert found.pixels == facts(NOISE).pixels
    assert (found.extension, found.width, found.height) == (extension, 31, 24)
    assert (found.sha256 == facts(NOISE).sha256) is (encoding == "PNG")


@pytest.mark.parametrize(("encoding", "extension"), [("JPEG", "jpg"), ("GIF", "gif")])
def test_lossy_encodings_are_told(encoding: str, extension: str):
    assert facts(NOISE, encoding).extension == extension


def grey_in_every_mode() -> dict[str, bytes]:
    opaque = GREY.convert("RGBA")
    colours = GREY.convert("RGB").quantize(8)
    lettered = Image.new("P", GREY.size)
    lettered.putpalette([level for level in (0, 85, 170, 255) for _ in range(3)])
    lettered.putdata([level // 85 for level in GREY.get_flattened_data()])
    return {
        "L": encoded(GREY),
        "LA": encoded(GREY.convert("LA")),
        "P": encoded(colours),
        "P by hand": encoded(lettered),
        "P as GIF": encoded(lettered, "GIF"),
        "RGB": encoded(GREY.convert("RGB")),
        "RGBA": encoded(opaque),
        "RGB as TIFF": encoded(GREY.convert("RGB"), "TIFF"),
        "L as BMP": encoded(GREY, "BMP"),
    }


@pytest.mark.parametrize(("mode", "data"), grey_in_every_mode().items(), ids=grey_in_every_mode())
def test_a_grey_picture_is_the_same_in_any_mode(mode: str, data: bytes):
    assert examine(data, max_pixels=LIMIT).pixels == facts(GREY).pixels


def test_black_and_white_is_the_same_in_one_bit():
    bits = NOISE.convert("1")
    assert facts(bits).pixels == facts(bits.convert("L")).pixels == facts(bits.convert("RGB")).pixels


def test_transparent_parts_are_white():
    shown = NOISE.convert("RGBA")
    shown.paste((0, 0, 0, 0), (0, 0, 10, 10))
    on_paper = NOISE.copy()
    on_paper.paste("white", (0, 0, 10, 10))
    assert facts(shown).pixels == facts(on_paper).pixels
    grey = GREY.convert("LA")
    grey.paste((0, 0), (0, 0, 10, 10))
    grey_on_paper = GREY.copy()
    grey_on_paper.paste(255, (0, 0, 10, 10))
    assert facts(grey).pixels == facts(grey_on_paper).pixels


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (6, 6))
    image.putpalette([9, 99, 199, 30, 60, 90])
    image.paste(1, (0, 0, 6, 3))
    white = Image.new("RGB", (6, 6), "white")
    white.paste((30, 60, 90), (0, 0, 6, 3))
    for encoding in ("PNG", "GIF"):
        assert facts(image, encoding, transparency=0).pixels == facts(white).pixels


def test_upright_by_exif():
    turned = Image.Exif()
    turned[0x0112] = 6
    lying = encoded(NOISE.transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned)
    assert examine(lying, max_pixels=LIMIT).pixels == facts(NOISE).pixels


@pytest.mark.parametrize("encoding", ["PNG", "BMP"])
def test_pictures_that_differ_in_one_pixel_differ(encoding: str):
    other = NOISE.copy()
    other.putpixel((30, 23), (1, 2, 3))
    assert facts(other, encoding).pixels != facts(NOISE, encoding).pixels


def test_the_same_pixels_in_another_shape_differ():
    flat = Image.new("L", (12, 2), 7)
    assert facts(flat).pixels != facts(flat.resize((2, 12))).pixels != facts(flat.resize((6, 4))).pixels


def test_sixteen_bits_are_not_cut_to_eight():
    deep = np.full((4, 4), 256, np.uint16)
    deeper = np.full((4, 4), 257, np.uint16)
    assert facts(Image.fromarray(deep)).pixels != facts(Image.fromarray(deeper)).pixels


@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.filterwarnings("ignore")
def test_a_cut_picture_is_refused(encoding: str, kept: float):
    data = encoded(NOISE, encoding)
    assert reason(data[: int(len(data) * kept)]) in (RejectReason.TRUNCATED_IMAGE, RejectReason.UNREADABLE_IMAGE)


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
def test_a_cut_picture_is_called_truncated(encoding: str):
    data = encoded(NOISE, encoding)
    assert reason(data[: len(data) * 2 // 3]) is RejectReason.TRUNCATED_IMAGE


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_picture_is_unreadable(data: bytes):
    assert reason(data) is RejectReason.UNREADABLE_IMAGE


def test_a_picture_that_claims_too_many_pixels_is_not_decoded():
    assert reason(encoded(Image.new("1", (3_000, 3_000))), max_pixels=8_999_999) is RejectReason.IMAGE_TOO_LARGE
    assert reason(encoded(NOISE), max_pixels=31 * 24 - 1) is RejectReason.IMAGE_TOO_LARGE
    assert examine(encoded(NOISE), max_pixels=31 * 24).width == 31


SEEDS = [encoded(NOISE, name) for name in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")] + [encoded(GREY.quantize(4))]


@given(seed=st.sampled_from(SEEDS), place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0.1, 1))
def test_damaged_bytes_are_facts_or_a_reason(seed: bytes, place: float, value: int, cut: float):
    data = bytearray(seed[: int(len(seed) * cut)])
    data[int(place * (len(data) - 1))] = value
    with warnings.catch_warnings(action="ignore"):
        try:
            examine(bytes(data), max_pixels=LIMIT)
        except Unusable as problem:
            assert " at 0x" not in problem.detail  # an address would differ between equal runs


def test_on_white_keeps_what_has_no_transparency():
    assert on_white(NOISE) is NOISE
    assert on_white(Image.open(io.BytesIO(encoded(GREY)))).mode == "RGB"


def test_thumbnails_show_the_upright_picture_on_white():
    grey = facts(Image.new("L", (300, 100), 200))
    assert (len(grey.thumbnail), set(grey.thumbnail[: 128 * 128]), set(grey.thumbnail[128 * 128 :])) == (
        THUMBNAIL_BYTES,
        {200},
        {128},
    )
    assert grey.aspect == 3
    clear = facts(Image.new("RGBA", (20, 20), (0, 0, 0, 0)))
    assert set(clear.thumbnail[: 128 * 128]) == {255}
    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    assert facts(turned, "JPEG", exif=exif).aspect == 0.5


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_deep_pictures_have_thumbnails_too(mode: str):
    ramp = Image.fromarray(np.linspace(0, 60_000, 80 * 80).reshape(80, 80).astype(np.uint16)).convert(mode)
    thumbnail = np.frombuffer(facts(ramp, "TIFF").thumbnail, np.uint8)[: 128 * 128]
    assert thumbnail[0] < 10 and thumbnail[-1] > 240


def test_thumbnails_hold_the_colours_of_their_places_whatever_the_size():
    for size in ((128, 128), (257, 300), (1023, 770)):
        halves = Image.new("RGB", size, (200, 40, 30))
        halves.paste((20, 60, 220), (0, size[1] // 2, size[0], size[1]))
        packed = np.frombuffer(facts(halves, "PNG").thumbnail, np.uint8)
        luma, chroma = packed[: 128 * 128].reshape(128, 128), packed[128 * 128 :].reshape(2, 16, 16)
        upper, lower = (
            np.array(half.convert("YCbCr").getpixel((0, 0))) for half in (halves, halves.crop((0, size[1] - 1, *size)))
        )
        for colour, rows in ((upper, slice(0, 7)), (lower, slice(9, 16))):
            assert (abs(luma[8 * rows.start : 8 * rows.stop].astype(int) - colour[0]) <= 1).all()
            assert (abs(chroma[:, rows].astype(int) - colour[1:, None, None]) <= 1).all()


def test_an_rgb_picture_with_a_transparent_colour_has_the_thumbnail_of_what_is_shown():
    picture = Image.new("RGB", (200, 200), (10, 20, 30))
    picture.paste((200, 100, 0), (100, 0, 200, 200))
    shown = Image.new("RGB", (200, 200), "white")
    shown.paste((200, 100, 0), (100, 0, 200, 200))
    assert facts(picture, "PNG", transparency=(10, 20, 30)).thumbnail == facts(shown, "PNG").thumbnail
