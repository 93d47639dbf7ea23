"""Run files for tests: the smallest run that has every part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from training.metrics import StepReport

SMALL_RUN: dict[str, Any] = {
    "seed": 3,
    "model": {
        "hidden_dim": 16,
        "image_side": 2,
        "query_sides": [2],
        "depth": 1,
        "samplers": {"count": 1, "start": 0, "stride": 1},
        "towers": [
            {
                "kind": "clip",
                "side_px": 16,
                "grid_side": 2,
                "config": {
                    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "patch_size": 8,
                },
            }
        ],
        "language": {
            "config": {
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 1,
            }
        },
    },
    "text": {"template": "phi3", "system": "S", "max_tokens": 128},
    "data": {"window": 16},
    "optimisation": {"batch_size": 4, "num_train_steps": 6, "learning_rate": 0.01},
    "checkpoint": {"every": 3, "keep": 2},
}  # fmt: skip


def run_settings(**changes: Any) -> dict[str, Any]:
    """SMALL_RUN with some top-level keys merged over."""
    settings = dict(SMALL_RUN)
    for key, value in changes.items():
        settings[key] = settings[key] | value if isinstance(value, dict) and key in settings else value
    return settings


def write_run(path: Path, **changes: Any) -> Path:
    """A run file of SMALL_RUN with changes."""
    path.write_text(yaml.safe_dump(run_settings(**changes)))
    return path


class Stop(Exception):
    """Ends a run from its `watch`."""


def stop_at(step: int) -> Callable[[StepReport], None]:
    """A `watch` that ends the run when this step is done."""

    def watch(report: StepReport) -> None:
        if report.step == step:
            raise Stop

    return watch


def ignore(_: StepReport) -> None:
    """A `watch` that lets the run go on."""
