"""EVA-02 (arXiv 2303.11331) as timm publishes it, written anew because transformers has none and timm needs torchvision.

A plain vision transformer but for three things: patches have rotary positions in two dimensions beside the learnt ones, the MLP
is a SwiGLU with a LayerNorm inside, and so has the attention one before its last projection. Parameters have timm's names.

Shapes: B images, T tokens (a class token, then patches row-major), F width, H heads, E head width, G patches a side.
"""
# ruff: noqa: N803, N806 - names carry the shape suffixes above

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

_EPS = 1e-6


class Eva02Config(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of an EVA-02; `rope_side` is the side of the grid that rotary positions were made for, others are scaled to it."""

    model_type = "eva02_vision"

    def __init__(
        self,
        hidden_size: int = 1024,
        intermediate_size: int = 2730,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        patch_size: int = 14,
        image_size: int = 336,
        rope_side: int = 16,
        **more: Any,
    ) -> None:
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.patch_size = patch_size
        self.image_size = image_size
        self.rope_side = rope_side
        super().__init__(**more)


def rotary_angles(side: int, rope_side: int, head_width: int) -> Tensor:
    """Angles [G * G, E] of the patches: half of a head turns with the row, half with the column, in pairs of one frequency."""
    frequencies = 10_000.0 ** -(torch.arange(head_width // 4, dtype=torch.float32) / (head_width // 4))
    places = torch.arange(side, dtype=torch.float32) / side * rope_side
    rows_GG, columns_GG = torch.meshgrid(places, places, indexing="ij")
    angles = torch.stack([rows_GG, columns_GG], dim=-1).unsqueeze(-1) * frequencies
    return angles.view(side * side, -1).repeat_interleave(2, dim=-1)


def _turn(x_BHTE: Tensor, angles_LE: Tensor) -> Tensor:
    """Rotate patches; the class token before them has no place."""
    first, patches = x_BHTE[:, :, :1], x_BHTE[:, :, 1:]
    turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    angles_LE = angles_LE.to(x_BHTE.device)
    patches = patches * angles_LE.cos() + turned * angles_LE.sin()
    return torch.cat([first, patches.to(x_BHTE.dtype)], dim=2)


class _Attention(nn.Module):
    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTF: Tensor, angles_LE: Tensor) -> Tensor:
        q, k, v = (project(x_BTF).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for project in self._projections())
        attended = functional.scaled_dot_product_attention(_turn(q, angles_LE), _turn(k, angles_LE), v)
        out: Tensor = self.proj(self.norm(attended.transpose(1, 2).flatten(2)))
        return out

    def _projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj


class _SwiGlu(nn.Module):
    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.fc1_g = nn.Linear(width, hidden)
        self.fc1_x = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPS)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BTF: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.norm(functional.silu(self.fc1_g(x_BTF)) * self.fc1_x(x_BTF)))
        return out


class _Block(nn.Module):
    def __init__(self, config: Eva02Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=_EPS)
        self.attn = _Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=_EPS)
        self.mlp = _SwiGlu(config)

    def forward(self, x_BTF: Tensor, angles_LE: Tensor) -> Tensor:
        x_BTF = x_BTF + self.attn(self.norm1(x_BTF), angles_LE)
        return x_BTF + self.mlp(self.norm2(x_BTF))  # type: ignore[no-any-return]


class Eva02Model(PreTrainedModel):
    """The encoder; gives `last_hidden_state` [B, T, F], normalised, class token first."""

    config_class = Eva02Config
    config: Eva02Config
    main_input_name = "pixel_values"

    def __init__(self, config: Eva02Config) -> None:
        super().__init__(config)
        side, width = config.image_size // config.patch_size, config.hidden_size
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, side * side + 1, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> BaseModelOutput:
        """Encode images [B, 3, S, S]."""
        del output_hidden_states  # the last state is what is taken
        config = self.config
        patches: Tensor = self.patch_embed.proj(pixel_values)  # type: ignore[operator]
        tokens = patches.flatten(2).transpose(1, 2)
        x_BTF = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed
        side, head_width = config.image_size // config.patch_size, config.hidden_size // config.num_attention_heads
        angles_LE = rotary_angles(side, config.rope_side, head_width)
        for block in self.blocks:
            x_BTF = block(x_BTF, angles_LE)
        return BaseModelOutput(last_hidden_state=self.norm(x_BTF))
