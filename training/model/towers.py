"""The vision encoders: each a transformers model, or one shaped like them, behind one interface: pixels in, a square grid of
tokens out.

Which output is taken follows the published code: CLIP the layer before the last without its class token, encoders of
open_clip their last layer normalised without it, SigLIP and I-JEPA the final one, DINOv2, EVA-02 and plain ViTs the final
one without the class token, SAM its last layer before the neck, DPT its last layer unnormalised, ConvNeXt every stage
resampled to one grid and joined on channels. Frozen towers run without gradients, and the model keeps them outside its
parameters, so that no checkpoint or optimiser holds them; trained ones are part of it.

Shapes: B images, C channels, S pixels a side, L = grid_side ** 2 tokens, F feature width.
"""
# ruff: noqa: N803, N806 - names carry the shape suffixes above

import math
from collections.abc import Mapping
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
    DPTConfig,
    DPTModel,
    IJepaConfig,
    IJepaModel,
    PretrainedConfig,
    PreTrainedModel,
    SamVisionConfig,
    SamVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from training.errors import CheckpointError, ConfigError
from training.model.backbones import BACKBONES, COLOURS, UNAVAILABLE, Backbone
from training.model.eva02 import Eva02Config, Eva02Model
from training.model.preprocess import ImageSpec
from training.model.published import TowerKind, from_published_names, load_published

_CLASSES: dict[TowerKind, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    TowerKind.CLIP: (CLIPVisionConfig, CLIPVisionModel),
    TowerKind.OPEN_CLIP: (CLIPVisionConfig, CLIPVisionModel),
    TowerKind.SIGLIP: (SiglipVisionConfig, SiglipVisionModel),
    TowerKind.DINOV2: (Dinov2Config, Dinov2Model),
    TowerKind.CONVNEXT: (ConvNextConfig, ConvNextModel),
    TowerKind.VIT: (ViTConfig, ViTModel),
    TowerKind.IJEPA: (IJepaConfig, IJepaModel),
    TowerKind.SAM: (SamVisionConfig, SamVisionModel),
    TowerKind.DPT: (DPTConfig, DPTModel),
    TowerKind.EVA02: (Eva02Config, Eva02Model),
}
_UNUSED_PARTS = ("pooler", "head", "neck")
"""Parts of the modules after what is taken: not kept."""
_UNUSED_NAMES = ("embeddings.mask_token", "layernorm.weight", "layernorm.bias")
"""Parameters that may be absent from a file: DINOv2's mask, and ConvNeXt's final normalisation."""


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

    def __init__(self, row: Backbone, backbone: PreTrainedModel, *, grid_side: int, is_trained: bool = False) -> None:
        super().__init__()
        self.kind = row.kind
        self.grid_side = grid_side
        colours = row.colours
        self.spec = ImageSpec(side_px=row.side_px, mean=colours.mean, std=colours.std, pad_mean=colours.pad_mean)
        config: Any = backbone.config
        self.width = int(sum(config.hidden_sizes) if row.kind is TowerKind.CONVNEXT else config.hidden_size)
        self.is_trained = is_trained
        self.backbone = backbone.requires_grad_(is_trained)
        self.train(is_trained)

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        """Tokens [B, L, F] of images [B, 3, S, S], row-major."""
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            pixels_BCSS = pixels_BCSS.to(self.backbone.dtype)
            if self.kind is TowerKind.CONVNEXT:
                return join_stages(self._stages(pixels_BCSS), self.grid_side)
            return resample_grid(self._tokens(pixels_BCSS), self.grid_side)

    def _stages(self, pixels_BCSS: Tensor) -> list[Tensor]:
        config: Any = self.backbone.config
        hidden = self.backbone(pixels_BCSS, output_hidden_states=True).hidden_states
        return list(hidden[-len(config.hidden_sizes) :])

    def _tokens(self, pixels_BCSS: Tensor) -> Tensor:
        output = self.backbone(pixels_BCSS, output_hidden_states=True)
        last: Tensor = output.last_hidden_state
        match self.kind:
            case TowerKind.CLIP:
                return output.hidden_states[-2][:, 1:]  # type: ignore[no-any-return]
            case TowerKind.OPEN_CLIP:
                normalise: Any = self.backbone.post_layernorm
                return normalise(last[:, 1:])  # type: ignore[no-any-return]
            case TowerKind.SAM:
                return output.hidden_states[-1].flatten(1, 2)  # type: ignore[no-any-return]
            case TowerKind.DPT:
                return output.hidden_states[-1][:, 1:]  # type: ignore[no-any-return]
            case TowerKind.DINOV2 | TowerKind.VIT | TowerKind.EVA02:
                return last[:, 1:]
        return last

    def train(self, mode: bool = True) -> "Tower":
        """A frozen encoder stays in evaluation mode: it has no use for dropout."""
        return super().train(mode and self.is_trained)


def backbone_row(name: str) -> Backbone:
    """A row of the registry. Raises ConfigError for an unknown name, or with the reason for one that does not run here."""
    if name in UNAVAILABLE:
        raise ConfigError(f"backbone '{name}' does not run here: {UNAVAILABLE[name]}")
    if name not in BACKBONES:
        raise ConfigError(f"no backbone '{name}'; valid are {', '.join(BACKBONES)}")
    return BACKBONES[name]


def plain_row(kind: TowerKind, *, side_px: int, grid_side: int, config: Mapping[str, Any] | None) -> Backbone:
    """A row for an encoder of a kind that is not in the registry."""
    return Backbone(kind=kind, family="", side_px=side_px, grid_side=grid_side, config=config or {}, colours=COLOURS[kind])


def build_tower(
    row: Backbone, *, grid_side: int, path: Path | None = None, weights: Path | None = None, is_trained: bool = False
) -> Tower:
    """A tower whose tokens are resampled to grid_side x grid_side, with weights from `path` (a local transformers folder) or
    `weights` (a safetensors file with open_clip or timm names), or else random.

    Nothing is downloaded and no code of a checkpoint is run. Raises ConfigError for settings that transformers refuses,
    CheckpointError for weights that do not fit.
    """
    if path is not None and weights is not None:
        raise ConfigError(f"tower '{row.kind}' has both `path` and `weights`; give one")
    config_class, model_class = _CLASSES[row.kind]
    if path is not None:
        backbone = _load(model_class, row.kind, path)
    else:
        try:
            backbone = model_class(config_class(**{"image_size": row.side_px, **row.config}))
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise ConfigError(f"tower '{row.kind}': transformers refuses its config: {error}") from error
    _prepare(backbone, row)
    if weights is not None:
        _take(backbone, row.kind, weights)
    return Tower(row, backbone, grid_side=grid_side, is_trained=is_trained)


def _prepare(backbone: PreTrainedModel, row: Backbone) -> None:
    for name in _UNUSED_PARTS:
        holder: Any = backbone.vision_encoder if row.kind is TowerKind.SAM else backbone
        if getattr(holder, name, None) is not None:
            setattr(holder, name, nn.Identity() if name == "neck" else None)
    if row.kind is TowerKind.SIGLIP:
        settings: Any = backbone
        settings.use_head = False
    if row.norm_eps is not None:
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = row.norm_eps


def _take(backbone: PreTrainedModel, kind: TowerKind, path: Path) -> None:
    """Fill a module from a file with published names. What of the module is not used may be absent from the file."""
    expected = backbone.state_dict()
    named = from_published_names(kind, load_published(path), {name: tuple(value.shape) for name, value in expected.items()})
    unused = _UNUSED_NAMES if kind is TowerKind.CONVNEXT else _UNUSED_NAMES[:1]
    faults = {
        "missing": expected.keys() - named.keys() - set(unused),
        "unknown": named.keys() - expected.keys(),
        "of another shape": {n for n in named.keys() & expected.keys() if named[n].shape != expected[n].shape},
    }
    if any(faults.values()):
        told = "; ".join(f"{len(n)} {what} ({', '.join(sorted(n)[:3])})" for what, n in faults.items() if n)
        raise CheckpointError(f"encoder weights '{path}' do not fit a '{kind}' of this size: names {told}")
    backbone.load_state_dict({**expected, **named})


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
