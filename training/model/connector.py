"""From encoder features to image tokens for the language model: projectors, query groups of the SVA, newline tokens.

All parameters have their published names (without the leading `model.`). In the cropped layout only the cells that an image
really covers are computed and handed on: padding goes before the SVA wherever a query's result does not depend on other
queries. In the padded layout, which the published models were trained with, every image keeps its whole grid and the
language model is told what of it is padding (`training/model/padding.py`). With one query group both give the same loss.

Shapes: I images, L tokens of an encoder, F its width, D hidden width, H width of the language model, N image cells of all
images together, M keys of a region.
"""
# ruff: noqa: N803, N806 - names carry the shape suffixes above

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.errors import ConfigError
from training.model.geometry import Box, ImageLayout, ImageSize, box_cells, image_box, region_mask
from training.model.sva import VisionTokenSampler, split_regions
from training.model.towers import resample_grid


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorShape:
    """Sizes of a connector. `query_sides` holds one grid side a query group, the last and largest is the image grid;
    `num_samplers` is the number of samplers inside the language model."""

    tower_widths: tuple[int, ...]
    tower_sides: tuple[int, ...]
    language_dim: int
    hidden_dim: int = 1024
    query_sides: tuple[int, ...] = (24,)
    image_side: int = 24
    depth: int = 3
    num_samplers: int = 0
    image_layout: ImageLayout = ImageLayout.CROPPED

    def __post_init__(self) -> None:
        for side in (*self.query_sides, self.image_side):
            wrong = [tower for tower in self.tower_sides if tower % side]
            if wrong:
                raise ConfigError(
                    f"tower grids of side {wrong} are no multiple of the query grid's {side}; change grid_side of the "
                    "towers, or query_sides and image_side of the model"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerInputs:
    """What samplers inside the language model attend to: the images' contexts [I, 1, D], the image [N] of each cell, and per
    encoder [N, M, D] and [N, M]."""

    context: Tensor
    context_rows: Tensor
    features: list[Tensor]
    masks: list[Tensor]

    def rows(self, index: Tensor) -> "SamplerInputs":
        """Some of the N image cells."""
        return SamplerInputs(
            context=self.context,
            context_rows=self.context_rows[index],
            features=[x[index] for x in self.features],
            masks=[x[index] for x in self.masks],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokens:
    """The tokens of all images end to end, newlines included: [T, H]; `cells` [N] are the places of those that are no
    newline; `lengths` counts each image's tokens."""

    tokens: Tensor
    cells: Tensor
    lengths: list[int]
    sampler_inputs: SamplerInputs | None


def add_newlines(cells_NH: Tensor, newline_H: Tensor, boxes: Sequence[Box], inner: SamplerInputs | None) -> ImageTokens:
    """Image tokens from the cells of all images: every row of a grid gets the newline at its right end."""
    parts, is_cell = [], []
    for box, cells in zip(boxes, torch.split(cells_NH, [box.height * box.width for box in boxes]), strict=True):
        newline = newline_H.to(cells.dtype).expand(box.height, 1, -1)
        parts.append(torch.cat([cells.view(box.height, box.width, -1), newline], dim=1).flatten(0, 1))
        mask = torch.ones(box.height, box.width + 1, dtype=torch.bool)
        mask[:, -1] = False
        is_cell.append(mask.flatten())
    places = torch.cat(is_cell).nonzero().squeeze(1).to(cells_NH.device)
    return ImageTokens(tokens=torch.cat(parts), cells=places, lengths=[len(part) for part in parts], sampler_inputs=inner)


class Connector(nn.Module):
    """Everything between the towers and the language model. With `checkpoints` samplers are recomputed in the backward pass."""

    vision_sampler_layers: nn.ModuleList

    def __init__(self, shape: ConnectorShape) -> None:
        super().__init__()
        self.shape = shape
        self.checkpoints = False
        d, width = shape.hidden_dim, shape.language_dim
        for i, tower_width in enumerate(shape.tower_widths):
            layers = [nn.Linear(tower_width, d), nn.GELU(), nn.Linear(d, d), nn.LayerNorm(d)]
            self.add_module(f"mm_projector_aux_{i}", nn.Sequential(*layers))
        for group, side in enumerate(shape.query_sides):
            self.add_module(f"vision_sampler_{group}", self._sampler(d, side, shape.depth))
        if shape.num_samplers:
            inner = [self._sampler(width, shape.image_side, 1) for _ in range(shape.num_samplers)]
            self.vision_sampler_layers = nn.ModuleList(inner)
        self.vision_query = nn.Parameter(torch.randn(len(shape.query_sides), d) / math.sqrt(d))
        self.image_newline = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.mm_projector = nn.Sequential(nn.Linear(d * len(shape.query_sides), width), nn.GELU(), nn.Linear(width, width))

    def _sampler(self, q_dim: int, side: int, depth: int) -> VisionTokenSampler:
        d, sides = self.shape.hidden_dim, self.shape.tower_sides
        return VisionTokenSampler(q_dim, d, [d] * len(sides), [tower // side for tower in sides], d, depth)

    def forward(self, features: Sequence[Tensor], sizes: Sequence[ImageSize]) -> ImageTokens:
        """Image tokens from encoder features [I, L_i, F_i] and the images' sizes before padding."""
        projected = [self.get_submodule(f"mm_projector_aux_{i}")(x) for i, x in enumerate(features)]
        global_ID = projected[0].mean(dim=1)
        side = self.shape.image_side
        boxes = [image_box(side, size, self.shape.image_layout) for size in sizes]
        cells = [box_cells(side, box).flatten() + image * side * side for image, box in enumerate(boxes)]
        kept_N = torch.cat(cells).to(global_ID.device)
        inner = self._inputs(projected, global_ID, sizes, side, kept_N)
        groups = [self._run_group(g, projected, global_ID, sizes, kept_N, inner) for g in range(len(self.shape.query_sides))]
        tokens_NH = self.mm_projector(torch.cat(groups, dim=-1))
        return add_newlines(tokens_NH, self.image_newline, boxes, inner)

    def _inputs(
        self, projected: Sequence[Tensor], global_ID: Tensor, sizes: Sequence[ImageSize], side: int, rows_N: Tensor
    ) -> SamplerInputs:
        """Regions under some cells of a side x side grid; rows are numbered image * side * side + cell."""
        masks = [
            torch.cat([region_mask(tower_side, side, *size) for size in sizes]).to(rows_N.device)[rows_N]
            for tower_side in self.shape.tower_sides
        ]
        return SamplerInputs(
            context=global_ID.unsqueeze(1),
            context_rows=rows_N // (side * side),
            features=[split_regions(x, side)[rows_N] for x in projected],
            masks=masks,
        )

    def _run_group(
        self,
        group: int,
        projected: Sequence[Tensor],
        global_ID: Tensor,
        sizes: Sequence[ImageSize],
        kept_N: Tensor,
        image_grid: SamplerInputs,
    ) -> Tensor:
        """A query group's result at the kept cells of the image grid [N, D]."""
        side, image_side = self.shape.query_sides[group], self.shape.image_side
        sampler = self.get_submodule(f"vision_sampler_{group}")
        rows_N = kept_N
        inputs = image_grid
        if side != image_side:  # the result is interpolated, so cells outside the image have a say in those inside
            rows_N = torch.arange(len(sizes) * side * side, device=kept_N.device)
            inputs = self._inputs(projected, global_ID, sizes, side, rows_N)
        queries_N1D = self.vision_query[group].expand(len(rows_N), 1, -1)
        arguments = (queries_N1D, inputs.context, inputs.features, inputs.masks, inputs.context_rows)
        if self.checkpoints and self.training:
            out_ND: Tensor = checkpoint(sampler, *arguments, use_reentrant=False).squeeze(1)
        else:
            out_ND = sampler(*arguments).squeeze(1)
        if side == image_side:
            return out_ND
        return resample_grid(out_ND.view(len(sizes), side * side, -1), image_side).flatten(0, 1)[kept_N]
