import numpy as np
from PIL import Image

from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.picture_hashes import HALVES, WINDOWS, contrasts, perceptual_hashes
from tests.support.look_alikes import scene, thumbnails

LUMA = thumbnails(*(scene(number) for number in range(5))).luma


def bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one ^ other)


def test_hashes_do_not_depend_on_the_batch():
    assert (perceptual_hashes(LUMA)[3:5] == perceptual_hashes(LUMA[3:5])).all()


def test_a_hash_holds_the_signs_of_the_lowest_frequencies_against_their_median():
    cells = LUMA.reshape(len(LUMA), 64, 2, 64, 2).mean((2, 4))
    waves = np.cos(np.pi * np.arange(8)[:, None] * (np.arange(64) + 0.5) / 64)
    spectra = (waves @ cells @ waves.T).reshape(len(LUMA), 64)
    signs = spectra > np.median(spectra[:, 1:], axis=1, keepdims=True)
    assert (np.packbits(signs, axis=1).view(">u8")[:, 0] == perceptual_hashes(LUMA)[:, 0]).all()


def test_a_crop_hashes_as_the_window_it_was_cut_from():
    image = scene(1, (400, 400))
    for number, (top, bottom, left, right) in enumerate(WINDOWS):
        cut = image.crop((round(left * 400), round(top * 400), round(right * 400), round(bottom * 400)))
        luma = thumbnails(image, cut).luma
        assert bits(perceptual_hashes(luma[:1])[0, number], perceptual_hashes(luma[1:])[0, 0]) <= 6


def test_what_is_laid_on_one_half_leaves_the_other_as_it_was():
    spoilt = LUMA.copy()
    spoilt[:, :50] = 0
    differing = bits(perceptual_hashes(LUMA, HALVES), perceptual_hashes(spoilt, HALVES))
    assert (differing[:, 1] == 0).all()
    assert (differing[:, 0] > 6).all()


def test_blank_halves_have_no_contrast():
    image = Image.new("L", (512, 512), "white")
    image.paste(scene(1, (512, 240)).convert("L"), (0, 272))
    top, bottom, left, right = contrasts(thumbnails(image).luma)[0]
    assert top == 0
    assert min(bottom, left, right) > 4


def test_a_tenth_cropped_off_anywhere_leaves_a_window_near_enough_to_be_proposed():
    image = scene(2, (400, 400))
    crops = [image.crop((left, top, left + 360, top + 360)) for top in range(0, 41, 10) for left in range(0, 41, 10)]
    luma = thumbnails(image, *crops).luma
    windows = perceptual_hashes(luma[:1])[0]
    nearest = bits(windows[None, :], perceptual_hashes(luma[1:])[:, :1]).min(1)
    assert (nearest <= LookAlikeRule().max_bits).all()
