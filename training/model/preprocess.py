"""Images to what each tower takes: padded to a square in the tower's mean colour, resized, normalised.

The steps and their rounding are those of the published `process_images`; there is no cropping and no tiling.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSpec:
    """How a tower wants its images. `pad_mean` is the padding colour in 0..1, not always the mean it normalises with:
    the published code pads for SigLIP in CLIP's colour.
    """

    side_px: int
    mean: Colour
    std: Colour
    pad_mean: Colour

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """The padding colour in 0..255, rounded down."""
        red, green, blue = (int(255 * value) for value in self.pad_mean)
        return red, green, blue


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The image centred on a square of its longer side; an odd pixel goes to the bottom or right."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def prepare_image(image: Image.Image, spec: ImageSpec) -> Tensor:
    """An RGB image as a tower takes it: float32 [3, side_px, side_px]."""
    square = pad_to_square(image, spec.pad_colour).resize((spec.side_px, spec.side_px))
    pixels = np.asarray(square, dtype=np.float32) / 255
    normed = (pixels - np.asarray(spec.mean, dtype=np.float32)) / np.asarray(spec.std, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(normed.transpose(2, 0, 1)))
