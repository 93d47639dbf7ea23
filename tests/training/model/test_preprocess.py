import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from tests.support.golden import Golden
from training.model.preprocess import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, ImageSpec, pad_to_square, prepare_image

MEANS = {"clip": CLIP_MEAN, "imagenet": IMAGENET_MEAN}


def test_padding_and_resizing_equal_the_published_code():
    golden = Golden("e1_preprocess.safetensors")
    allowed = 0 if PIL.__version__ == golden.metadata["pillow"] else 1
    for number, case in enumerate(golden.metadata["images"]):
        spec = ImageSpec(side_px=case["res"], mean=HALF, std=HALF, pad_mean=MEANS[case["mean"]])
        assert list(spec.pad_colour) == case["colour"]
        image = Image.fromarray(golden[f"img{number}.in"].numpy())
        square = pad_to_square(image, spec.pad_colour)
        assert np.array_equal(np.asarray(square), golden[f"img{number}.square"].numpy())
        pixels = prepare_image(image, spec).permute(1, 2, 0) * 127.5 + 127.5
        assert (pixels.round() - golden[f"img{number}.resized"].float()).abs().max() <= allowed


def test_normalisation_uses_mean_and_std():
    spec = ImageSpec(side_px=2, mean=CLIP_MEAN, std=CLIP_STD, pad_mean=CLIP_MEAN)
    pixels = prepare_image(Image.new("RGB", (4, 4), (255, 0, 255)), spec)
    assert pixels.shape == (3, 2, 2)
    expected = [(value - mean) / std for value, mean, std in zip((1, 0, 1), CLIP_MEAN, CLIP_STD, strict=True)]
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize("size", [(5, 2), (2, 5)])
def test_the_odd_pixel_goes_to_the_end(size):
    square = np.asarray(pad_to_square(Image.new("RGB", size, (255, 255, 255)), (0, 0, 0)))[..., 0]
    line = square[:, 0] if size[0] > size[1] else square[0]
    assert line.tolist() == [0, 255, 255, 0, 0]
