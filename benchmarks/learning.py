"""Whether a model learns to see: trains the recipe `learning.yaml` on drawn pictures and asks about held-out ones.

Every kind of question has four equally likely answers, so chance is a quarter. Accuracy is told for held-out pictures and for
the same questions with every picture blanked, for the SVA and for the plain MLP connector in its place. An answer is right when
each of its tokens, and its end, is the likeliest after those before it: just then greedy generation gives this answer.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from tests.support.pictures import picture_samples
from tests.support.releases import write_release
from training.build import build_collator, build_stream, build_tokenizer
from training.config import RunConfig
from training.loop import Trainer

RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "learning.yaml"
GREY = (240, 240, 240)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Shares of right answers on held-out pictures, and on the same questions with blank ones, all and by kind of question."""

    seen: float
    blank: float
    by_source: Mapping[str, float]
    seconds: float


def settings(folder: Path, connector: str, num_train_steps: int | None) -> RunConfig:
    """The recipe, for a connector."""
    chosen: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    chosen |= {"release": str(folder / "train"), "output": str(folder / connector)}
    if num_train_steps is not None:
        chosen["optimisation"]["num_train_steps"] = num_train_steps
    if connector == "mlp":
        chosen["model"] |= {"connector": "mlp", "samplers": {"count": 0}}
    return RunConfig.model_validate(chosen)


def draw(folder: Path, *, num_train: int = 8_000, num_held_out: int = 400, num_questions: int = 4) -> None:
    """Releases of pictures to learn from and of others to ask about, with some or all kinds of questions."""
    for name, seed, count in (("train", 1, num_train), ("held-out", 2, num_held_out)):
        samples = picture_samples(count, seed=seed, num_questions=num_questions)
        write_release(folder / name, samples, samples_per_shard=2000)


def learn(folder: Path, connector: str, *, num_train_steps: int | None = None) -> Accuracy:
    """Train on a folder's pictures and ask about its held-out ones."""
    config = settings(folder, connector, num_train_steps)
    begun = time.perf_counter()
    trainer = Trainer(config)
    trainer.train(lambda report: None)
    seconds = time.perf_counter() - begun
    model = trainer.model.eval()
    seen, blank, asked = Counter[str](), Counter[str](), Counter[str]()
    collate = build_collator(config, build_tokenizer(config), model.towers)
    samples = list(build_stream(config.model_copy(update={"release": str(folder / "held-out")})))
    for start in range(0, len(samples), 100):
        batch = samples[start : start + 100]
        asked.update(sample["source"] for sample in batch)
        blanked = [s | {"images": [Image.new("RGB", image.size, GREY) for image in s["images"]]} for s in batch]
        for counts, given in ((seen, batch), (blank, blanked)):
            made = collate(given)
            with torch.no_grad():
                out = model(made.layout, made.pixels, made.image_sizes)
            is_right = (out.num_right == out.num_targets).tolist()
            counts.update(source for source, right in zip(made.sources, is_right, strict=True) if right)
    return Accuracy(
        seen=seen.total() / asked.total(),
        blank=blank.total() / asked.total(),
        by_source={name: seen[name] / asked[name] for name in sorted(asked)},
        seconds=seconds,
    )


def main() -> int:
    """Train both and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-steps", type=int, help="instead of the recipe's")
    given = parser.parse_args()
    torch.set_num_threads(1)  # tensors are too small to share
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder)
        found = {connector: learn(folder, connector, num_train_steps=given.train_steps) for connector in ("sva", "mlp")}
    for connector, accuracy in found.items():
        kinds = ", ".join(f"{source} {share:.0%}" for source, share in accuracy.by_source.items())
        print(f"{connector}: held-out {accuracy.seen:.1%} ({kinds}), blanked {accuracy.blank:.1%}, {accuracy.seconds:.0f} s")
    figures = {"name": "held-out accuracy, SVA and MLP", "ours": found["sva"].seen, "theirs": found["mlp"].seen}
    print(json.dumps(figures | {"ratio": found["sva"].seen / found["mlp"].seen, "unit": "share"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
