"""Encoders as open_clip and timm publish them: random weights under their names, and a slow plain-torch forward pass on those.

Written from the architectures, function by function, with no module of transformers involved.
"""

import torch
from torch.nn import functional


class Weights:
    """Random tensors made when first asked for, by name."""

    def __init__(self, seed: int = 0) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        if name not in self.tensors:
            self.tensors[name] = torch.randn(shape, generator=self._random) * 0.3
        return self.tensors[name]


def norm(w: Weights, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    """LayerNorm over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + eps)
    return normed * w(f"{name}.weight", x.shape[-1]) + w(f"{name}.bias", x.shape[-1])


def linear(w: Weights, name: str, x: torch.Tensor, out: int) -> torch.Tensor:
    """A dense layer with bias."""
    return x @ w(f"{name}.weight", out, x.shape[-1]).T + w(f"{name}.bias", out)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of one image, head by head."""
    width = q.shape[-1] // heads
    parts = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / width**0.5
        parts.append(torch.softmax(scores, dim=-1) @ v[:, part])
    return torch.cat(parts, dim=-1)


def patches(w: Weights, name: str, image: torch.Tensor, patch: int, width: int, *, bias: bool = True) -> torch.Tensor:
    """Tokens [L, width] of an image [3, S, S]."""
    kernel = w(f"{name}.weight", width, 3, patch, patch)
    cut = image.unfold(1, patch, patch).unfold(2, patch, patch).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    tokens = cut @ kernel.flatten(1).T
    return tokens + w(f"{name}.bias", width) if bias else tokens


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """OpenAI's approximation."""
    return x * torch.sigmoid(1.702 * x)


def timm_vit(
    w: Weights, image: torch.Tensor, *, width: int, depth: int, heads: int, patch: int, mlp: int,
    has_class: bool, is_dinov2: bool = False, is_swiglu: bool = False, eps: float = 1e-6,
) -> torch.Tensor:  # fmt: skip
    """timm's VisionTransformer.forward_features of one image [3, S, S]: all tokens."""
    x = patches(w, "patch_embed.proj", image, patch, width)
    if has_class:
        x = torch.cat([w("cls_token", 1, 1, width)[0], x])
    x = x + w("pos_embed", 1, len(x), width)[0]
    for number in range(depth):
        name = f"blocks.{number}"
        q, k, v = linear(w, f"{name}.attn.qkv", norm(w, f"{name}.norm1", x, eps), 3 * width).chunk(3, dim=-1)
        added = linear(w, f"{name}.attn.proj", attend(q, k, v, heads), width)
        x = x + (added * w(f"{name}.ls1.gamma", width) if is_dinov2 else added)
        hidden = norm(w, f"{name}.norm2", x, eps)
        if is_swiglu:
            gate, up = linear(w, f"{name}.mlp.w12", hidden, 2 * mlp).chunk(2, dim=-1)
            added = linear(w, f"{name}.mlp.w3", gate * torch.sigmoid(gate) * up, width)
        else:
            added = linear(w, f"{name}.mlp.fc2", functional.gelu(linear(w, f"{name}.mlp.fc1", hidden, mlp)), width)
        x = x + (added * w(f"{name}.ls2.gamma", width) if is_dinov2 else added)
    return norm(w, "norm", x, eps)


def timm_eva02(
    w: Weights,
    image: torch.Tensor,
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    mlp: int,
    rope_side: int,
    eps: float = 1e-6,
) -> torch.Tensor:
    """timm's Eva.forward_features (EVA-02 of EVA-CLIP) of one image [3, S, S]: all tokens. Patches turn pair by pair."""
    x = patches(w, "patch_embed.proj", image, patch, width)
    side = round(len(x) ** 0.5)
    x = torch.cat([w("cls_token", 1, 1, width)[0], x])
    x = x + w("pos_embed", 1, len(x), width)[0]
    for number in range(depth):
        name = f"blocks.{number}"
        hidden = norm(w, f"{name}.norm1", x, eps)
        q = linear(w, f"{name}.attn.q_proj", hidden, width)
        k = hidden @ w(f"{name}.attn.k_proj.weight", width, width).T
        v = linear(w, f"{name}.attn.v_proj", hidden, width)
        q, k = (turn_patches(one, side, rope_side, width // heads) for one in (q, k))
        attended = norm(w, f"{name}.attn.norm", attend(q, k, v, heads), eps)
        x = x + linear(w, f"{name}.attn.proj", attended, width)
        hidden = norm(w, f"{name}.norm2", x, eps)
        gate, up = linear(w, f"{name}.mlp.fc1_g", hidden, mlp), linear(w, f"{name}.mlp.fc1_x", hidden, mlp)
        x = x + linear(w, f"{name}.mlp.fc2", norm(w, f"{name}.mlp.norm", gate * torch.sigmoid(gate) * up, eps), width)
    return norm(w, "norm", x, eps)


def turn_patches(x: torch.Tensor, side: int, rope_side: int, head_width: int) -> torch.Tensor:
    """Rotary positions, complex number by complex number: in each head the first half of the pairs turns with a patch's row,
    the second with its column; the class token stays."""
    out = x.clone()
    pairs = head_width // 2
    for patch in range(side * side):
        places = (patch // side * rope_side / side, patch % side * rope_side / side)
        for first in range(0, x.shape[-1], 2):
            pair = first % head_width // 2
            angle = places[pair >= pairs // 2] * 10_000 ** -(pair % (pairs // 2) / (pairs // 2))
            turned = torch.complex(x[patch + 1, first], x[patch + 1, first + 1]) * torch.polar(
                torch.tensor(1.0), torch.tensor(float(angle))
            )
            out[patch + 1, first], out[patch + 1, first + 1] = turned.real, turned.imag
    return out


def open_clip_vit(
    w: Weights, image: torch.Tensor, *, width: int, depth: int, heads: int, patch: int, mlp: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """open_clip's VisionTransformer with quick GELU: tokens after the layer before the last, and the last ones normalised."""
    x = patches(w, "conv1", image, patch, width, bias=False)
    x = torch.cat([w("class_embedding", width).unsqueeze(0), x])
    x = norm(w, "ln_pre", x + w("positional_embedding", len(x), width), 1e-5)
    states = []
    for number in range(depth):
        name = f"transformer.resblocks.{number}"
        hidden = norm(w, f"{name}.ln_1", x, 1e-5)
        joined = hidden @ w(f"{name}.attn.in_proj_weight", 3 * width, width).T + w(f"{name}.attn.in_proj_bias", 3 * width)
        q, k, v = joined.chunk(3, dim=-1)
        x = x + linear(w, f"{name}.attn.out_proj", attend(q, k, v, heads), width)
        hidden = quick_gelu(linear(w, f"{name}.mlp.c_fc", norm(w, f"{name}.ln_2", x, 1e-5), mlp))
        x = x + linear(w, f"{name}.mlp.c_proj", hidden, width)
        states.append(x)
    return states[-2], norm(w, "ln_post", x, 1e-5)


def timm_convnext(w: Weights, image: torch.Tensor, *, widths: list[int], depths: list[int], eps: float) -> list[torch.Tensor]:
    """timm's ConvNeXt: every stage's output [F, H, W] for one image [3, S, S]."""
    x = functional.conv2d(image.unsqueeze(0), w("stem.0.weight", widths[0], 3, 4, 4), w("stem.0.bias", widths[0]), stride=4)
    x = norm(w, "stem.1", x.permute(0, 2, 3, 1), eps)
    stages = []
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            name = f"stages.{stage}.downsample"
            x = norm(w, f"{name}.0", x, eps).permute(0, 3, 1, 2)
            x = functional.conv2d(x, w(f"{name}.1.weight", width, x.shape[1], 2, 2), w(f"{name}.1.bias", width), stride=2)
            x = x.permute(0, 2, 3, 1)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            kernel, bias = w(f"{name}.conv_dw.weight", width, 1, 7, 7), w(f"{name}.conv_dw.bias", width)
            hidden = functional.conv2d(x.permute(0, 3, 1, 2), kernel, bias, padding=3, groups=width).permute(0, 2, 3, 1)
            hidden = linear(w, f"{name}.mlp.fc1", norm(w, f"{name}.norm", hidden, eps), 4 * width)
            x = x + linear(w, f"{name}.mlp.fc2", functional.gelu(hidden), width) * w(f"{name}.gamma", width)
        stages.append(x[0].permute(2, 0, 1))
    return stages
