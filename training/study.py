"""The paper's encoder study as run files: every backbone x adapter data of 0, 0.5M or 1.2M samples x frozen or trained encoder.

Each is Vicuna-1.5-7B behind a two-layer MLP on 576 tokens. A grid point with adapter data is two runs: the adapter's, shared by
the frozen and the trained variant, and instruction tuning on the study's 737k samples.
Command: `python -m training.study FOLDER`.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from training.model.backbones import BACKBONES, UNAVAILABLE
from training.model.published import TowerKind

ADAPTER_SAMPLES = (0, 500_000, 1_200_000)
_BATCH, _DEVICE_BATCH = 512, 8
_OF_OPEN_CLIP = frozenset({TowerKind.OPEN_CLIP, TowerKind.SIGLIP, TowerKind.CONVNEXT, TowerKind.EVA02})
"""Published as open_clip's files; the others as folders of transformers."""
_VICUNA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}


def study_runs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of every run, in an order that has what a run starts from before it."""
    for backbone in BACKBONES:
        for samples in ADAPTER_SAMPLES:
            adapter = f"{backbone}/adapter-{samples // 1000}k"
            if samples:
                yield adapter, _adapter(backbone, adapter, samples)
            for is_trained in (False, True):
                name = f"{backbone}/tune-{samples // 1000}k-{'trained' if is_trained else 'frozen'}"
                start = {"start_from": f"runs/study/{adapter}/export"} if samples else {}
                tuning = _common(backbone, name, is_trained=is_trained) | {"stage": 2} | _rates(2e-5, 0.03)
                tuning["data"] |= {"group": {"batch": _BATCH, "tokens_per_image": 576}}
                yield name, start | tuning


def _adapter(backbone: str, name: str, samples: int) -> dict[str, Any]:
    rates = _rates(1e-3, 0.06)
    rates["optimisation"]["num_train_steps"] = -(-samples // _BATCH)
    return _common(backbone, name, is_trained=False) | {"stage": 1} | rates


def _rates(learning_rate: float, warmup_ratio: float) -> dict[str, Any]:
    chosen = {
        "batch_size": _DEVICE_BATCH,
        "base_batch_size": _BATCH,
        "learning_rate": learning_rate,
        "warmup_ratio": warmup_ratio,
    }
    return {"optimisation": chosen}


def _common(backbone: str, name: str, *, is_trained: bool) -> dict[str, Any]:
    folder = f"weights/{backbone}"
    is_file = BACKBONES[backbone].kind in _OF_OPEN_CLIP
    where = {"weights": f"{folder}/open_clip_model.safetensors"} if is_file else {"path": folder}
    tower = {"backbone": backbone, "grid_side": 24, **where, "is_trained": is_trained}
    return {
        "output": f"runs/study/{name}",
        "device": "cuda",
        "precision": "bfloat16",
        "gradient_checkpointing": True,
        "parallel": {"mode": "shard"},
        "model": {
            "connector": "mlp",
            "image_side": 24,
            "query_sides": [24],
            "samplers": {"count": 0},
            "towers": [tower],
            "language": {"kind": "llama", "path": "weights/vicuna-7b-v1.5", "config": dict(_VICUNA)},
        },
        "text": {"tokenizer": "weights/vicuna-7b-v1.5", "template": "v1", "max_tokens": 2048},
        "data": {"num_workers": 8},
    }


def main() -> int:
    """Write the run files."""
    parser = argparse.ArgumentParser(prog="python -m training.study", description="Write the encoder study's run files.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    count = 0
    for name, settings in study_runs():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        count += 1
    sys.stdout.write(f"{count} run files for {len(BACKBONES)} backbones in {folder}\n")
    for name, reason in UNAVAILABLE.items():
        sys.stdout.write(f"left out: {name}: {reason}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
