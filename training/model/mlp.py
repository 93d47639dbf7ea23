"""The plain connector that the SVA is held against: towers resampled to one grid, joined on channels, a two-layer MLP.

This is LLaVA's projector, which the paper's encoder study uses; its parameters have LLaVA's names. There are no samplers
inside the language model.

Shapes: I images, L tokens of an encoder, F its width, N image cells of all images together, H width of the language model.
"""
# ruff: noqa: N806 - names carry the shape suffixes above

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.errors import ConfigError
from training.model.connector import ConnectorShape, ImageTokens, add_newlines
from training.model.geometry import ImageSize, box_cells, image_box
from training.model.towers import resample_grid


class MlpConnector(nn.Module):
    """Everything between the towers and the language model, without an SVA."""

    def __init__(self, shape: ConnectorShape) -> None:
        super().__init__()
        if shape.num_samplers:
            raise ConfigError(
                "samplers inside the language model need the SVA; set model.samplers.count to 0 or connector to sva"
            )
        self.shape = shape
        self.checkpoints = False
        width = shape.language_dim
        self.mm_projector = nn.Sequential(nn.Linear(sum(shape.tower_widths), width), nn.GELU(), nn.Linear(width, width))
        self.image_newline = nn.Parameter(torch.randn(width) / math.sqrt(width))

    def forward(self, features: Sequence[Tensor], sizes: Sequence[ImageSize]) -> ImageTokens:
        """Image tokens from encoder features [I, L_i, F_i] and the images' sizes before padding."""
        side = self.shape.image_side
        boxes = [image_box(side, size, self.shape.image_layout) for size in sizes]
        joined_NF = torch.cat([resample_grid(x, side) for x in features], dim=-1).flatten(0, 1)
        kept_N = torch.cat([box_cells(side, box).flatten() + image * side * side for image, box in enumerate(boxes)])
        cells_NH = self.mm_projector(joined_NF[kept_N.to(joined_NF.device)])
        return add_newlines(cells_NH, self.image_newline, boxes, None)
