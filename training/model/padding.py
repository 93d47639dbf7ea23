"""The padded layout: whole image grids in the sequence, with padding masked, as the published models were trained.

Attention leaves padded tokens out and positions do not advance on them, so that text after an image stands where it would
stand after the cropped image. A row of the grid that is wholly padded is masked with its newline; elsewhere the newline counts.
"""
# ruff: noqa: N806 - names carry the shape suffixes of training/layout.py

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from training.layout import Layout
from training.model.geometry import ImageSize, box_mask, unpadded_box


def real_tokens(size: ImageSize, side: int) -> Tensor:
    """Boolean [side * (side + 1)]: which tokens of a padded image, newlines included, are no padding."""
    cells = box_mask(side, unpadded_box(side, *size))
    return torch.cat([cells, cells.any(dim=1, keepdim=True)], dim=1).flatten()


def mask_padding(layout: Layout, sizes: Sequence[ImageSize], side: int) -> Layout:
    """A layout of whole grids, one sample a row, with padding masked; `sizes` are those of its images in order."""
    if not sizes:
        return layout
    num_text = len(layout.text_W)
    is_real = torch.cat([torch.ones(num_text, dtype=torch.bool), *(real_tokens(size, side) for size in sizes)])
    is_real = torch.cat([is_real, torch.zeros(1, dtype=torch.bool)])  # what stands at an empty place
    attention_BT = is_real[layout.origin_BT]
    positions_BT = (attention_BT.cumsum(dim=1) - 1).clamp(min=0)
    is_empty = layout.origin_BT == num_text + layout.num_image_tokens
    return replace(layout, attention_BT=attention_BT, positions_BT=positions_BT.masked_fill(is_empty, 0))
