"""Text laid over a picture against text in place of other text, on thumbnails' cells; whole pictures in test_picture_check."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.overlay import evidence, is_laid_on

SIDE = 128
ENOUGH = LookAlikeRule().overlay_evidence
PLACE = (40, 56, 20, 80)
"""Top, bottom, left, right."""


def soft(seed: int) -> np.ndarray:
    """[s, s] slopes with a little detail everywhere."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(60, 160, SIDE), np.linspace(0, 40, SIDE))
    return (across + down + rng.integers(0, 6, (SIDE, SIDE))).astype(np.float32)


def lettered(picture: np.ndarray, seed: int, level: float = 0.0) -> np.ndarray:
    """`picture` with strokes of one colour at PLACE."""
    top, bottom, left, right = PLACE
    strokes = np.random.default_rng(seed).random(((bottom - top) // 2, (right - left) // 2)) < 0.5
    is_stroke = np.zeros(picture.shape, np.bool_)
    is_stroke[top:bottom, left:right] = strokes.repeat(2, axis=0).repeat(2, axis=1)
    return np.where(is_stroke, np.float32(level), picture)


@given(st.integers(0, 50), st.sampled_from([0.0, 255.0]))
def test_strokes_of_one_colour_over_what_goes_on_around_them_are_laid_on(seed: int, level: float):
    picture = soft(seed)
    assert evidence(picture, lettered(picture, seed, level), *PLACE) >= ENOUGH


@given(st.integers(0, 50), st.integers(51, 100))
def test_letters_in_the_place_of_letters_are_not(seed: int, other: int):
    picture = soft(seed)
    assert evidence(lettered(picture, seed), lettered(picture, other), *PLACE) < ENOUGH


@given(st.integers(0, 50))
def test_either_picture_may_be_the_one_that_is_written_on(seed: int):
    picture, written = soft(seed), lettered(soft(seed), seed)
    assert evidence(picture, written, *PLACE) == evidence(written, picture, *PLACE)


def test_what_did_not_change_and_what_has_no_strokes_is_no_text():
    picture = soft(1)
    assert evidence(picture, picture, *PLACE) == 0
    shaded = picture.copy()
    shaded[40:56, 20:80] -= 60
    assert evidence(picture, shaded, *PLACE) == 0
    striped = lettered(np.full((SIDE, SIDE), 100, np.float32), 1)
    assert evidence(striped, striped, *PLACE) == 0


def test_a_rectangle_that_is_the_whole_picture_has_nothing_around_it():
    picture = soft(2)
    written = np.where(np.random.default_rng(0).random((SIDE, SIDE)) < 0.3, np.float32(0), picture)
    assert evidence(picture, written, 0, SIDE, 0, SIDE) > 0


def test_what_is_laid_on_lies_together_and_is_wider_than_high():
    picture = soft(3)
    bounds = LookAlikeRule().bounds(crops=True)

    def is_one_line(top: int, bottom: int, left: int, right: int, *, is_photo: bool) -> bool:
        marks = np.zeros((SIDE, SIDE), np.uint8)
        marks[top:bottom, left:right] = 1
        rows = np.random.default_rng(4).random((SIDE, SIDE)) < 0.5
        written = np.where(rows & (marks > 0), np.float32(0), picture)
        return is_laid_on(picture, written, marks, is_photo, bounds)

    assert is_one_line(40, 56, 20, 80, is_photo=False)
    assert is_one_line(40, 56, 20, 34, is_photo=True), "of photographs nothing more is asked"
    assert not is_one_line(40, 56, 20, 34, is_photo=False), "too narrow"
    assert not is_one_line(20, 50, 20, 80, is_photo=False), "too high for a line"
    assert not is_one_line(10, 80, 10, 90, is_photo=True), "too large even for a photograph"
