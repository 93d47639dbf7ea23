"""Training from a real stream: tokens a second, and how long steps wait for data.

A release of drawn 640 x 480 pictures is written, then trained on by the loop that trains models, DataLoader workers and all.
On a GPU the model is a slice of the 8B recipe: its four encoders, connector and vocabulary, and four of its decoder layers
with two samplers, weights random; on a CPU it is the demo's, which shows that this runs and no more. Steps are held against
the same steps without their waiting: the ratio should stay above 0.98. Nothing is saved.
"""

import argparse
import io
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image, ImageDraw

from benchmarks.printing import show
from tests.support.releases import TinySample, write_release
from training.config import RunConfig
from training.loop import Trainer
from training.metrics import StepReport

RECIPES = Path(__file__).parents[1] / "training" / "recipes"
WARM_UP = 5
NUM_LAYERS, SAMPLERS = 4, {"count": 2, "start": 0, "stride": 3}


class _Enough(Exception):
    """Enough steps were seen; the run is left before it saves anything."""


def draw_release(folder: Path, num_samples: int) -> None:
    """Samples of one picture and some 200 words of answer."""
    chance = random.Random(0)
    samples = []
    for number in range(num_samples):
        picture = Image.linear_gradient("L").rotate(chance.randrange(360)).resize((640, 480)).convert("RGB")
        ImageDraw.Draw(picture).ellipse((40, 40, 300, 200), fill=(chance.randrange(256), 90, 160))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        answer = " ".join(chance.choice(["a", "shape", "of", "colour", "stands", "left"]) for _ in range(200))
        samples.append(TinySample(sample_id=f"p{number:05d}", answer=answer, images=(buffer.getvalue(),)))
    write_release(folder, samples, samples_per_shard=256)


def settings(folder: Path, device: str, *, num_train_steps: int, num_workers: int) -> RunConfig:
    """The slice of the 8B recipe on a GPU, the demo on a CPU."""
    name = "cambrian-8b-stage2" if device == "cuda" else "demo"
    chosen: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    chosen |= {"release": str(folder / "release"), "output": str(folder / "run"), "device": device, "tensorboard": False}
    chosen["data"] = {"num_workers": num_workers}
    chosen["optimisation"]["num_train_steps"] = num_train_steps
    if device == "cuda":
        del chosen["start_from"], chosen["parallel"]
        chosen["text"] |= {"tokenizer": "bytes", "template": "phi3"}
        model = chosen["model"]
        model["samplers"] = SAMPLERS
        model["towers"] = [{key: tower[key] for key in ("backbone", "grid_side")} for tower in model["towers"]]
        model["language"] = {"kind": "llama", "config": model["language"]["config"] | {"num_hidden_layers": NUM_LAYERS}}
    return RunConfig.model_validate(chosen)


def measure(config: RunConfig) -> list[StepReport]:
    """Reports of the steps after those that warm up."""
    seen: list[StepReport] = []
    last = (config.optimisation.num_train_steps or 0) - 1

    def watch(report: StepReport) -> None:
        seen.append(report)
        if report.step == last:
            raise _Enough

    try:
        Trainer(config).train(watch)
    except _Enough:
        return seen[WARM_UP:]
    raise AssertionError("the run ended before its last step but one")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print tokens a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--train-steps", type=int, default=30)
    parser.add_argument("--workers", type=int, help="DataLoader workers; 8 on a GPU, 1 on a CPU")
    parser.add_argument("--pictures", type=int, default=256, help="samples of the release that is drawn")
    given = parser.parse_args(arguments)
    workers = given.workers if given.workers is not None else {"cuda": 8, "cpu": 1}[given.device]
    with tempfile.TemporaryDirectory() as name:
        draw_release(Path(name) / "release", num_samples=given.pictures)
        steps = measure(
            settings(Path(name), given.device, num_train_steps=WARM_UP + given.train_steps + 1, num_workers=workers)
        )
    hardware = torch.cuda.get_device_name() if given.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{hardware}, torch {torch.__version__}, {workers} workers, {len(steps)} steps of {steps[0].num_samples} samples")
    seconds = [step.num_tokens / step.tokens_per_second for step in steps]
    waited = sum(step.data_wait_share * time for step, time in zip(steps, seconds, strict=True))
    tokens = sum(step.num_tokens for step in steps)
    what = "8B slice" if given.device == "cuda" else "demo model"
    show(f"{what} from a stream", tokens / sum(seconds), tokens / (sum(seconds) - waited), "tokens/s", versus="no waiting")
    return 0


if __name__ == "__main__":
    sys.exit(main())
