import io
import warnings

import pytest
from PIL import Image

from curation.shard_format import encode_sample, padding_bytes, tar_header
from tests.support.releases import TinySample, png_bytes, write_release
from training.decode import ImageDecoder, open_rgb
from training.errors import SampleError
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
