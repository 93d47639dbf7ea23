"""The vision encoders: each a transformers model behind one interface, pixels in, a square grid of tokens out.

Which output is taken follows the published code: CLIP the layer before the last without its class token, SigLIP the final
one, DINOv2 the final one without its class token, ConvNeXt every stage resampled to one grid and joined on channels. Towers
are frozen and run without gradients; the model keeps them outside its parameters, so no checkpoint or optimiser holds them.

Shapes: B images, C channels, S pixels a side, L = grid_side ** 2 tokens, F feature width.
"""
# ruff: noqa: N803, N806 - names carry the shape suffixes above

import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    PretrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from training.errors import ConfigError
from training.model.preprocess import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, ImageSpec


class TowerKind(StrEnum):
    """Encoders this package knows."""

    CLIP = "clip"
    SIGLIP = "siglip"
    DINOV2 = "dinov2"
    CONVNEXT = "convnext"


_CLASSES: dict[TowerKind, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    TowerKind.CLIP: (CLIPVisionConfig, CLIPVisionModel),
    TowerKind.SIGLIP: (SiglipVisionConfig, SiglipVisionModel),
    TowerKind.DINOV2: (Dinov2Config, Dinov2Model),
    TowerKind.CONVNEXT: (ConvNextConfig, ConvNextModel),
}
_COLOURS = {  # mean, std, padding
    TowerKind.CLIP: (CLIP_MEAN, CLIP_STD, CLIP_MEAN),
    TowerKind.SIGLIP: (HALF, HALF, CLIP_MEAN),
    TowerKind.DINOV2: (IMAGENET_MEAN, IMAGENET_STD, IMAGENET_MEAN),
    TowerKind.CONVNEXT: (CLIP_MEAN, CLIP_STD, CLIP_MEAN),
}


def resample_grid(features_BLF: Tensor, side: int) -> Tensor:
    """A square grid of tokens resampled to side x side: bilinear in float32, untouched where it has that size already."""
    length = features_BLF.shape[1]
    if length == side * side:
        return features_BLF
    old = math.isqrt(length)
    grid_BFHW = features_BLF.unflatten(1, (old, old)).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
    return _resample(grid_BFHW, side).flatten(2).transpose(1, 2)


def _resample(grid_BFHW: Tensor, side: int) -> Tensor:
    resampled = functional.interpolate(grid_BFHW.float(), size=(side, side), mode="bilinear", align_corners=False)
    return resampled.to(grid_BFHW.dtype)


def join_stages(stages: list[Tensor], side: int) -> Tensor:
    """Stage outputs [B, F_i, H_i, W_i], shallow first, as one grid [B, side * side, sum F_i]."""
    return torch.cat([_resample(stage, side) for stage in stages], dim=1).flatten(2).transpose(1, 2)


class Tower(nn.Module):
    """An encoder, frozen unless `is_trained`. `spec` says how it wants its images, `width` is F."""

    def __init__(
        self, kind: TowerKind, backbone: PreTrainedModel, *, side_px: int, grid_side: int, is_trained: bool = False
    ) -> None:
        super().__init__()
        mean, std, pad_mean = _COLOURS[kind]
        self.kind = kind
        self.grid_side = grid_side
        self.spec = ImageSpec(side_px=side_px, mean=mean, std=std, pad_mean=pad_mean)
        self.width = _width(kind, backbone.config)
        self.is_trained = is_trained
        self.backbone = backbone.requires_grad_(is_trained)
        self.train(is_trained)

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        """Tokens [B, L, F] of images [B, 3, S, S], row-major."""
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            return self._encode(pixels_BCSS.to(self.backbone.dtype))

    def _encode(self, pixels_BCSS: Tensor) -> Tensor:
        if self.kind is TowerKind.CONVNEXT:
            output = self.backbone(pixels_BCSS, output_hidden_states=True)
            stages = output.hidden_states[-len(self.backbone.config.hidden_sizes) :]
            return join_stages(list(stages), self.grid_side)
        return resample_grid(self._tokens(pixels_BCSS), self.grid_side)

    def _tokens(self, pixels_BCSS: Tensor) -> Tensor:
        if self.kind is TowerKind.CLIP:
            hidden: Tensor = self.backbone(pixels_BCSS, output_hidden_states=True).hidden_states[-2]
            return hidden[:, 1:]
        last: Tensor = self.backbone(pixels_BCSS).last_hidden_state
        return last[:, 1:] if self.kind is TowerKind.DINOV2 else last

    def train(self, mode: bool = True) -> "Tower":
        """A frozen encoder stays in evaluation mode: it has no use for dropout."""
        return super().train(mode and self.is_trained)


def _width(kind: TowerKind, config: PretrainedConfig) -> int:
    return int(sum(config.hidden_sizes) if kind is TowerKind.CONVNEXT else config.hidden_size)


def build_tower(
    kind: TowerKind, *, side_px: int, grid_side: int, config: Mapping[str, Any] | None = None, path: Path | None = None
) -> Tower:
    """A tower with random weights from transformers `config` values, or with the weights in a local folder `path`.

    Nothing is downloaded and no code of a checkpoint is run. Raises ConfigError for settings that transformers refuses.
    """
    config_class, model_class = _CLASSES[kind]
    if (config is None) == (path is None):
        raise ConfigError(f"tower '{kind}' needs either `config` (random weights) or `path` (a local folder), not both")
    if path is not None:
        return Tower(kind, _load(model_class, kind, path), side_px=side_px, grid_side=grid_side)
    try:
        settings = config_class(**{"image_size": side_px, **(config or {})})
        backbone = model_class(settings)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ConfigError(f"tower '{kind}': transformers refuses its config: {error}") from error
    return Tower(kind, backbone, side_px=side_px, grid_side=grid_side)


def _load(model_class: type[PreTrainedModel], kind: TowerKind, path: Path) -> PreTrainedModel:
    if not path.is_dir():
        raise ConfigError(f"tower '{kind}': no folder '{path}'; expected one with config.json and model.safetensors")
    try:
        model: PreTrainedModel = model_class.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ConfigError(f"tower '{kind}': '{path}' cannot be loaded: {error}") from error
    return model
