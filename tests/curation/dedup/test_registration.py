import numpy as np

from curation.dedup.registration import blurred, fit, warped
from tests.support.look_alikes import scene, thumbnails

WHOLE = np.array([[0.0, 1.0, 0.0, 1.0]])


def test_the_whole_frame_changes_nothing():
    luma = thumbnails(scene(1)).luma.astype(np.float32)
    assert np.allclose(warped(luma, WHOLE), luma, atol=1e-3)


def test_a_known_crop_is_found():
    image = scene(2, (400, 400))
    crop = image.crop((20, 12, 388, 396))
    both = thumbnails(crop, image).luma.astype(np.float32)
    frame = fit(both[:1], both[1:], WHOLE)
    assert np.allclose(frame, [[12 / 400, 396 / 400, 20 / 400, 388 / 400]], atol=0.01)


def test_plain_pictures_have_no_fit_and_no_failure():
    plain = np.full((1, 64, 64), 9, np.float32)
    assert np.isfinite(fit(plain, plain, WHOLE)).all()


def test_blurring_keeps_the_mean_inside():
    values = np.zeros((1, 6, 6), np.float32)
    values[0, 3, 3] = 9
    assert blurred(values).sum() == 9
    assert blurred(values).max() == 1
