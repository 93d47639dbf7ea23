import io
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from curation.shard_format import encode_sample, padding_bytes, tar_header
from tests.support.releases import TinySample, png_bytes, write_release
from training.decode import ImageDecoder, open_rgb
from training.errors import ConfigError, SampleError
from training.index import open_release
from training.members import as_sample, parse_members, split_members


def member(name, content):
    return tar_header(name, len(content)) + content + bytes(padding_bytes(len(content)))


def sample_bytes(tmp_path, *images):
    folder = write_release(tmp_path / "r", [TinySample(sample_id="a", images=images)])
    release = open_release(folder)
    return release.files.read_range(release.shard_path(0), 0, int(release.num_bytes[0]))


def read_sample(data, decode, *, max_image_pixels):
    decoder = None if decode is None else ImageDecoder(decode=decode, max_image_pixels=max_image_pixels)
    return as_sample(parse_members(data), decoder)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_images_come_in_order_as_rgb(tmp_path, num_images):
    images = [png_bytes(width=2 + number) for number in range(num_images)]
    sample = read_sample(sample_bytes(tmp_path, *images), "pil", max_image_pixels=1000)
    assert [(image.mode, image.width) for image in sample["images"]] == [("RGB", 2 + n) for n in range(num_images)]
    assert sample["license"] == "CC0-1.0"
    assert sample["origin"]["id"] == "a"


def test_images_as_bytes_or_through_a_function(tmp_path):
    data = sample_bytes(tmp_path, png_bytes())
    assert read_sample(data, None, max_image_pixels=1)["images"] == [png_bytes()]
    assert read_sample(data, len, max_image_pixels=1)["images"] == [len(png_bytes())]


def test_the_pixel_limit_holds_before_decoding(tmp_path):
    with pytest.raises(SampleError, match="4 x 3 pixels; the limit is 11"):
        read_sample(sample_bytes(tmp_path, png_bytes()), "pil", max_image_pixels=11)


@pytest.mark.parametrize("content", [b"not an image", png_bytes()[:40], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_undecodable_images_are_sample_errors(content):
    with pytest.raises(SampleError, match=r"'a.png'"):
        open_rgb(content, name="a.png", max_image_pixels=1000)


def test_sixteen_bit_greys_keep_their_range():
    image = Image.new("I;16", (2, 2), 128 * 256)
    assert open_rgb(encoded(image), name="x", max_image_pixels=9).getpixel((0, 0)) == (128, 128, 128)


def test_palettes_with_transparency_decode_without_warning():
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_rgb(encoded(image, transparency=b"\x00\xff"), name="x", max_image_pixels=9).getpixel((0, 0)) == (10, 20, 30)


def test_a_wrong_offset_is_found_at_the_header(tmp_path):
    data = sample_bytes(tmp_path, png_bytes())
    with pytest.raises(SampleError, match="out of step"):
        split_members(data[512:])


def test_a_flipped_header_bit_is_found(tmp_path):
    data = bytearray(sample_bytes(tmp_path))
    data[0] ^= 1
    with pytest.raises(SampleError, match="checksum"):
        split_members(bytes(data))


def test_a_cut_member_is_found(tmp_path):
    with pytest.raises(SampleError, match="needs"):
        split_members(sample_bytes(tmp_path)[:-512])


def test_members_must_be_what_the_json_lists():
    payload = encode_sample(key="a", source="s", category="c", conversations=[], images=[], license="", origin={})
    with pytest.raises(SampleError, match="the shard holds"):
        read_sample(member("a.json", payload) + member("a.png", png_bytes()), None, max_image_pixels=9)
    with pytest.raises(SampleError, match=r"expected '<sample_id>.json'"):
        read_sample(member("a.png", png_bytes()), None, max_image_pixels=9)
    with pytest.raises(SampleError, match="cannot be read"):
        read_sample(member("a.json", b"{}"), None, max_image_pixels=9)


def test_links_are_refused():
    header = bytearray(tar_header("a.json", 0))
    header[156:157] = b"2"
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
    with pytest.raises(SampleError, match="not a regular file"):
        split_members(bytes(header))


def photograph(width, height, mode="RGB"):
    """Smooth colours, as JPEG likes them."""
    coarse = Image.frombytes("RGB", (8, 6), bytes(range(0, 144)))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


needs_turbo = pytest.mark.skipif(not find_spec("simplejpeg"), reason="the extra `turbo` is not installed")
DECODERS = ["pil", pytest.param("turbo", marks=needs_turbo)]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_decoders_agree_on_jpegs(decode, mode):
    content = encoded(photograph(64, 48, mode), "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    found = ImageDecoder(decode=decode)(content, "a.jpg")
    assert (found.mode, found.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(found) - expected).mean() < 2


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    ("side_px", "size"), [(384, (512, 384)), (100, (256, 192)), (30, (128, 96)), (385, (1024, 768)), (2000, (1024, 768))]
)
def test_jpegs_come_as_small_as_the_needed_side_allows(decode, side_px, size):
    found = ImageDecoder(decode=decode, side_px=side_px)(encoded(photograph(1024, 768), "JPEG"), "a.jpg")
    assert min(found.size) >= min(side_px, 768)
    assert max(found.size) <= max(size) or (side_px, size) == (385, (1024, 768))


@pytest.mark.parametrize("decode", DECODERS)
def test_scaled_pictures_resize_to_nearly_the_same(decode):
    content = encoded(photograph(1024, 768), "JPEG", quality=95)
    whole = ImageDecoder()(content, "a").resize((96, 96), Image.Resampling.BICUBIC)
    scaled = ImageDecoder(decode=decode, side_px=96)(content, "a").resize((96, 96), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(scaled)).mean() < 2


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("side_px", [None, 1])
def test_every_decoder_keeps_the_pixel_limit_and_finds_damage(decode, side_px):
    content = encoded(photograph(64, 48), "JPEG")
    with pytest.raises(SampleError, match="64 x 48 pixels; the limit is 3,071"):
        ImageDecoder(decode=decode, side_px=side_px, max_image_pixels=64 * 48 - 1)(content, "a.jpg")
    with pytest.raises(SampleError, match=r"'a.jpg'"):
        ImageDecoder(decode=decode, side_px=side_px)(content[: len(content) // 3], "a.jpg")
    assert ImageDecoder(decode=decode, side_px=side_px)(png_bytes(), "a.png").size == (4, 3)


@pytest.mark.parametrize("options", [{"decode": "cv2"}, {"side_px": 0}, {"max_image_pixels": 0}])
def test_wrong_decoders_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ImageDecoder(**options)
