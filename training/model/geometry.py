"""Where an image lies on a square grid after it was padded to a square, and what of the grid is real.

The rounding is that of the published code (`unpad_image`): both sides lose the same number of cells. One difference: an
image so narrow that nothing would be left keeps the middle cells, where the published code fails.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

ImageSize = tuple[int, int]
"""Width and height in pixels, before padding."""


class ImageLayout(StrEnum):
    """What of a padded image's grid goes into the sequence: the cells it covers, or all of them, with padding masked."""

    CROPPED = "cropped"
    PADDED = "padded"


@dataclass(frozen=True, slots=True)
class Box:
    """Rows `top` to `bottom` - 1 and columns `left` to `right` - 1 of a grid."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


def unpadded_box(side: int, image_width: int, image_height: int) -> Box:
    """The cells of a side x side grid that an image covers once it was padded to a square around its centre."""
    if image_width >= image_height:
        margin = _margin(side, image_height, image_width)
        return Box(margin, side - margin, 0, side)
    margin = _margin(side, image_width, image_height)
    return Box(0, side, margin, side - margin)


def _margin(side: int, shorter: int, longer: int) -> int:
    kept = max(1, int(shorter * (side / longer)))
    return (side - kept) // 2


def image_box(side: int, size: ImageSize, layout: ImageLayout) -> Box:
    """The cells of a side x side grid that go into the sequence."""
    return unpadded_box(side, *size) if layout is ImageLayout.CROPPED else Box(0, side, 0, side)


def num_image_tokens(size: ImageSize, side: int, layout: ImageLayout = ImageLayout.CROPPED) -> int:
    """Tokens of one image in the sequence, newlines included."""
    box = image_box(side, size, layout)
    return box.height * (box.width + 1)


def box_cells(side: int, box: Box) -> Tensor:
    """Flat indices [height, width] of a box's cells, row-major."""
    rows = torch.arange(box.top, box.bottom).unsqueeze(1)
    return rows * side + torch.arange(box.left, box.right)


def box_mask(side: int, box: Box) -> Tensor:
    """Boolean [side, side], True inside the box."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[box.top : box.bottom, box.left : box.right] = True
    return mask


def region_mask(side: int, query_side: int, image_width: int, image_height: int) -> Tensor:
    """Keys that count [query_side * query_side, m * m] for an encoder of side x side tokens.

    A query whose region is wholly padded attends to all of it, so that no softmax is empty.
    """
    m = side // query_side
    mask = box_mask(side, unpadded_box(side, image_width, image_height))
    regions = mask.view(query_side, m, query_side, m).transpose(1, 2).reshape(query_side * query_side, m * m)
    return regions | ~regions.any(dim=1, keepdim=True)
