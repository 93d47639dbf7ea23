import base64
import io

import numpy as np
import pytest
from PIL import Image

from curation.report import thumbnails
from curation.report.thumbnails import NO_PREVIEW, thumbnail
from tests.curation.report.made_up import png


def _decoded(data_uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data_uri.removeprefix("data:image/jpeg;base64,"))))


def _encoded(image: Image.Image, encoding: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "expected"), [((1_000, 500), (220, 110)), ((30, 600), (11, 220)), ((8, 6), (8, 6))])
def test_previews_are_small_and_keep_their_shape(size, expected):
    preview = thumbnail(png((1, 2, 3), size))

    assert (preview.width, preview.height) == expected == _decoded(preview.data_uri).size


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_gives_a_preview(mode):
    image = Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)) if mode == "I;16" else Image.new(mode, (8, 6))

    assert _decoded(thumbnail(_encoded(image, "JPEG" if mode == "CMYK" else "PNG")).data_uri).mode == "RGB"


def test_transparent_parts_are_white():
    preview = _decoded(thumbnail(_encoded(Image.new("RGBA", (8, 6), (0, 0, 0, 0)), "PNG")).data_uri)

    assert preview.getpixel((4, 3)) == (255, 255, 255)


def test_orientation_is_applied_and_no_metadata_passed_on():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "private"

    preview = _decoded(thumbnail(_encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).data_uri)

    assert preview.size == (20, 40)
    assert not preview.getexif()


@pytest.mark.parametrize("data", [b"", b"no picture", png((1, 2, 3), (90, 90))[:60], b"<svg></svg>"])
def test_what_does_not_decode_has_no_preview(data):
    assert thumbnail(data) == NO_PREVIEW


def test_what_is_too_large_is_not_decoded(monkeypatch):
    monkeypatch.setattr(thumbnails, "MAX_SOURCE_PIXELS", 100)
    assert thumbnail(png((1, 2, 3), (20, 20))) == NO_PREVIEW

    monkeypatch.setattr(thumbnails, "MAX_SOURCE_BYTES", 10)
    assert thumbnail(png((1, 2, 3), (2, 2))) == NO_PREVIEW
