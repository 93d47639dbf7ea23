import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from curation.dedup import hamming_join, near_image
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_between, alike_within
from tests.support.look_alikes import saved, scene, thumbnails

RULE = LookAlikeRule()
SCENES = [scene(number) for number in range(12)]


def pairs(found: near_image.Alike) -> set[tuple[int, int]]:
    return set(zip(found.left.tolist(), found.right.tolist(), strict=True))


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    cut = round(image.width * share), round(image.height * share)
    return image.crop((*cut, image.width - cut[0], image.height - cut[1]))


COPIES = {
    "jpeg 30": lambda image: saved(image, "JPEG", quality=30),
    "jpeg 95": lambda image: saved(image, "JPEG", quality=95),
    "webp": lambda image: saved(image, "WEBP", quality=70),
    "half": lambda image: resized(image, 0.5),
    "double": lambda image: resized(image, 2),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "border cut by 2%": lambda image: cropped(image, 0.02),
    "a tenth cut off": lambda image: cropped(image, 0.05),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_photographs_are_found_and_nothing_else(copy: str):
    found = alike_between(thumbnails(*SCENES), thumbnails(*map(COPIES[copy], SCENES)), RULE)
    assert pairs(found) == {(number, number) for number in range(len(SCENES))}


def test_a_line_of_text_on_a_photograph_makes_no_other_picture():
    captioned = SCENES[0].copy()
    ImageDraw.Draw(captioned).text((12, 150), "SAMPLE", fill="white")
    assert pairs(alike_within(thumbnails(SCENES[0], captioned), RULE)) == {(0, 1)}
    strict = LookAlikeRule(overlaid=0, crops=False)
    assert not pairs(alike_within(thumbnails(SCENES[0], captioned), strict))


def test_a_number_in_a_drawing_makes_another_picture():
    drawings = []
    for bar in (60, 100, 140):
        drawing = Image.new("RGB", (300, 200), "white")
        draw = ImageDraw.Draw(drawing)
        draw.rectangle((20, 20, 280, 180), outline="black", width=2)
        draw.rectangle((60, 180 - bar, 110, 180), fill="navy")
        draw.rectangle((150, 60, 200, 180), fill="maroon")
        drawings.append(drawing)
    assert not pairs(alike_within(thumbnails(*drawings), RULE))
    assert pairs(alike_within(thumbnails(drawings[0], saved(drawings[0], "JPEG", quality=40)), RULE)) == {(0, 1)}


def test_colours_of_equal_brightness_are_told_apart():
    red, green = (Image.new("RGB", (64, 64), "white") for _ in range(2))
    ImageDraw.Draw(red).rectangle((10, 10, 50, 50), fill=(200, 60, 60))
    ImageDraw.Draw(green).rectangle((10, 10, 50, 50), fill=(60, 130, 55))
    luma = [int(np.asarray(image.convert("L"))[30, 30]) for image in (red, green)]
    assert abs(luma[0] - luma[1]) <= 4
    assert not pairs(alike_within(thumbnails(red, green), RULE))


def test_nearly_blank_pages_are_never_alike():
    pages = []
    for place in (400, 404):
        page = Image.new("L", (800, 1200), "white")
        ImageDraw.Draw(page).text((place, 100), "x", fill="black")
        pages.append(page)
    assert not pairs(alike_within(thumbnails(*pages), RULE))


def test_mirrored_copies_are_found_when_asked_for():
    both = thumbnails(SCENES[0], ImageOps.mirror(SCENES[0]))
    assert not pairs(alike_within(both, RULE))
    assert pairs(alike_within(both, LookAlikeRule(mirrored=True))) == {(0, 1)}


def test_crops_are_found_only_when_asked_for():
    both = thumbnails(SCENES[0], cropped(SCENES[0], 0.05))
    assert not pairs(alike_within(both, LookAlikeRule(crops=False)))


def test_nothing_is_alike_to_nothing():
    none = Thumbnails(np.zeros((0, near_image.THUMBNAIL_BYTES), np.uint8), np.zeros(0, np.float32))
    assert not pairs(alike_within(none, RULE))
    assert not pairs(alike_between(none, thumbnails(SCENES[0]), RULE))


POOL = thumbnails(*SCENES[:6], *(saved(image, "JPEG", quality=50) for image in SCENES[:6]), cropped(SCENES[0], 0.04))


def some(places: list[int]) -> Thumbnails:
    return Thumbnails(POOL.packed[places], POOL.aspect[places])


@given(st.permutations(range(len(POOL))), st.integers(0, len(POOL)))
@settings(max_examples=20, deadline=None)
def test_order_and_partitions_change_nothing(order: list[int], cut: int):
    expected = pairs(alike_within(POOL, RULE))
    found = {tuple(sorted((order[left], order[right]))) for left, right in pairs(alike_within(some(order), RULE))}
    assert found == expected
    first, second = some(order[:cut]), some(order[cut:])
    across = {tuple(sorted((order[left], order[cut + right]))) for left, right in pairs(alike_between(first, second, RULE))}
    assert across == {pair for pair in expected if (order.index(pair[0]) < cut) != (order.index(pair[1]) < cut)}


def test_tables_propose_what_all_against_all_does(monkeypatch: pytest.MonkeyPatch):
    expected = pairs(alike_within(POOL, RULE))
    monkeypatch.setattr(hamming_join, "_DIRECT", 0)
    assert pairs(alike_within(POOL, RULE)) == expected


def test_proposals_beyond_the_cap_are_counted():
    same = some([0] * 9)
    everything = alike_within(same, RULE)
    assert (len(everything.left), everything.unseen) == (9 * 8 // 2, 0)
    capped = alike_within(same, LookAlikeRule(max_alike=2))
    assert len(capped.left) < 9 * 8 // 2
    assert capped.unseen >= 9 * 8 // 2 - len(capped.left)
