import numpy as np

from curation.dedup.registration import improve, pooled, unlike, warped
from tests.support.look_alikes import scene, thumbnails

WHOLE = np.array([0.0, 1.0, 0.0, 1.0])


def fitted(shown: np.ndarray, picture: np.ndarray) -> np.ndarray:
    frame = WHOLE.copy()
    for cells, steps in ((4, 8), (2, 5), (1, 2)):
        improve(pooled(shown, cells), pooled(picture, cells), frame, steps)
    return frame


def test_the_whole_frame_changes_nothing():
    luma = thumbnails(scene(1)).luma[0].astype(np.float32)
    assert np.allclose(warped(luma, WHOLE), luma, atol=1e-3)


def test_a_known_crop_is_found():
    image = scene(2, (400, 400))
    crop = image.crop((20, 12, 388, 396))
    shown, picture = thumbnails(crop, image).luma.astype(np.float32)
    frame = fitted(shown, picture)
    assert np.allclose(frame, [12 / 400, 396 / 400, 20 / 400, 388 / 400], atol=0.003)
    assert unlike(shown, warped(picture, frame)) < 0.01 < unlike(shown, picture)


def test_plain_pictures_have_no_fit_and_no_failure():
    plain = np.full((128, 128), 9, np.float32)
    assert np.isfinite(fitted(plain, plain)).all()
    assert unlike(plain, plain) == 0


def test_pooling_keeps_means():
    picture = np.arange(64, dtype=np.float32).reshape(8, 8)
    assert pooled(picture, 4).tolist() == [[13.5, 17.5], [45.5, 49.5]]


def test_equal_pictures_are_alike_and_unrelated_ones_are_not():
    one, other = thumbnails(scene(1), scene(2)).luma.astype(np.float32)
    assert unlike(one, one) == 0
    assert unlike(one, other) > 0.5
