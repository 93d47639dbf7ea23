"""The check itself, on drawn charts: copies that agree, and small changes that make another picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails
from curation.dedup.picture_check import CONTRAST, DETAIL, GREY, alike_pairs
from tests.support.look_alikes import saved, scene, thumbnails

SIZE = (640, 480)
WHOLE = (0.0, 1.0, 0.0, 1.0)


def chart(seed: int, changed: tuple[int, ...] = ()) -> Image.Image:
    """A bar chart of a house style: same axes and colours, bars and words by `seed`; `changed` bars have another height."""
    rng = np.random.default_rng(seed)
    heights, image = rng.integers(60, 330, 12), Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for number, height in enumerate(heights):
        top = 420 - int(height) - (40 if number in changed else 0)
        left = 50 + 48 * number
        draw.rectangle((left, top, left + 30, 420), fill=("navy", "teal", "maroon")[number % 3])
        draw.text((left, top - 18), str(int(height)), fill="black", font=font)
        draw.text((left, 426), "".join(rng.choice(list("abcdefgh"), 4)), fill="black", font=font)
    draw.text((50, 12), " ".join("".join(rng.choice(list("abcdefghij"), 6)) for _ in range(8)), fill="black", font=font)
    draw.line((40, 40, 40, 420, 630, 420), fill="grey", width=2)
    for level in range(60, 420, 60):
        draw.line((40, level, 630, level), fill="lightgrey")
    return image


def agree(one: Image.Image, other: Image.Image, rule: LookAlikeRule | None = None, window: tuple[float, ...] = WHOLE) -> bool:
    both = thumbnails(one, other)
    looks, places = both.looks.traits, np.array([0, 1])
    bounds = (rule or LookAlikeRule()).bounds(crops=True)
    found = alike_pairs(both.packed, looks, both.packed, looks, places[:1], places[1:], np.array([window]), bounds)
    return bool(found[0])


def cut(image: Image.Image, top: float, bottom: float, left: float, right: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


@pytest.mark.parametrize("picture", [chart(1), scene(1, SIZE)], ids=["chart", "photo"])
def test_crops_agree_with_what_they_were_cut_from(picture: Image.Image):
    for frame in [(0.02, 0.98, 0.02, 0.98), (0.05, 0.95, 0.05, 0.95), (0.0, 0.9, 0.1, 1.0)]:
        start = (round(frame[0], 1), round(frame[1], 1), round(frame[2], 1), round(frame[3], 1))
        assert agree(saved(cut(picture, *frame), "JPEG", quality=60), picture, window=start)


def test_charts_of_one_house_style_differ_however_they_are_laid():
    for seed in range(2, 8):
        assert not agree(chart(1), chart(seed))


@pytest.mark.parametrize("bar", range(0, 12, 3))
def test_one_other_bar_makes_another_chart_cropped_or_not(bar: int):
    assert not agree(chart(1), chart(1, changed=(bar,)))
    assert not agree(cut(chart(1, changed=(bar,)), 0.05, 0.95, 0.05, 0.95), chart(1))


def test_a_spot_that_changed_where_nothing_else_did_makes_another_picture():
    marked, picture = [], scene(3, SIZE)
    for place in ((300, 200), (360, 260)):
        image = picture.copy()
        ImageDraw.Draw(image).rectangle((*place, place[0] + 9, place[1] + 14), fill=(20, 90, 40))
        marked.append(image)
    strict = LookAlikeRule(overlaid=0, crops=False)
    assert not agree(*marked, strict)
    assert agree(marked[0], saved(marked[0], "JPEG", quality=40), strict)


def laid_on(image: Image.Image, place: tuple[int, int], words: str = "(c) stock pictures") -> Image.Image:
    written = image.copy()
    font = ImageFont.load_default(34)
    ImageDraw.Draw(written).text(place, words, fill="red", font=font, stroke_width=2, stroke_fill="white")
    return written


def test_a_line_of_text_laid_on_makes_no_other_picture_but_two_do():
    photo = scene(3, SIZE)
    assert agree(photo, laid_on(photo, (60, 300)))
    assert not agree(photo, laid_on(laid_on(photo, (60, 40)), (60, 400))), "what differs must lie together"
    busy = chart(1)
    assert LookAlikeRule().overlay_busy <= thumbnails(busy).looks.traits[0, DETAIL]
    assert agree(busy, laid_on(busy, (160, 60)))


def test_text_in_the_place_of_other_text_makes_another_chart():
    busy = chart(1)
    assert not agree(laid_on(busy, (160, 60)), laid_on(busy, (160, 60), "quite other words"))


def card(number: str, size: int, rows: int = 0) -> Image.Image:
    """A number on a card, with `rows` of other numbers under it."""
    image = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    draw.text((60, 40), number, fill="black", font=font)
    for row in range(1, rows + 1):
        draw.text((60, 40 + row * (size + 14)), "31415 926 535 8979"[:: 1 if row % 2 else -1], fill="black", font=font)
    return image


@pytest.mark.parametrize(
    ("one", "other"), [("1111", "8888"), ("4711", "1174"), ("360", "12459"), ("852", "96"), ("7731", "20846")]
)
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("size", [30, 50, 70])
def test_a_number_in_the_place_of_another_makes_another_card(one: str, other: str, size: int, rows: int):
    assert agree(card(one, size, rows), saved(card(one, size, rows), "JPEG", quality=60))
    assert not agree(card(one, size, rows), card(other, size, rows))


def test_shapes_that_moved_are_no_line_of_text():
    pictures = []
    for places in ((80, 260, 500), (80, 330, 430)):
        image = Image.new("RGB", SIZE, "lightgrey")
        for number, left in enumerate(places):
            ImageDraw.Draw(image).ellipse((left, 200, left + 70, 270), fill=("navy", "gold", "black")[number])
        pictures.append(image)
    assert not agree(*pictures)


def test_blank_pictures_agree_with_nothing():
    blank = Image.new("L", (64, 64), "white")
    assert not agree(blank, blank)


def test_traits_tell_grey_and_contrast():
    grey, colourful = thumbnails(Image.linear_gradient("L"), scene(1)).looks.traits
    assert (grey[GREY], colourful[GREY]) == (1, 0)
    assert grey[CONTRAST] == pytest.approx(np.std(np.arange(256)), rel=0.05)


def test_mirrored_thumbnails_are_those_of_mirrored_pictures():
    image = scene(1, (256, 256))
    mirrored = thumbnails(image).mirrored()
    expected = thumbnails(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert isinstance(mirrored, Thumbnails)
    assert np.abs(mirrored.packed.astype(int) - expected.packed).max() <= 2
