"""Answers of a trained model: `python -m training.chat CHECKPOINT IMAGE "question"`.

The prompt is made by the code that makes training samples, up to where an answer would begin, so that it has the same tokens.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import PreTrainedTokenizerBase

from curation.shard_format import IMAGE_MARKER
from training.build import build_tokenizer
from training.chat import Template, get_template, tokenize_prompt
from training.config import RunConfig
from training.decode import MAX_IMAGE_PIXELS, open_rgb
from training.errors import ConfigError, TrainingError
from training.export import load_run
from training.layout import lay_out
from training.model.cambrian import Cambrian, move_layout
from training.model.geometry import ImageLayout, num_image_tokens
from training.model.padding import mask_padding
from training.model.preprocess import prepare_image
from training.model.towers import Tower

MAX_NEW_TOKENS = 256


class Answerer:
    """A model, its tokenizer and its template, ready to answer."""

    def __init__(self, config: RunConfig, model: Cambrian, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self.template: Template = get_template(config.text.template, system=config.text.system)
        self._end_ids = _end_ids(tokenizer, self.template)

    def answer(self, question: str, images: Sequence[Image.Image] = (), *, max_new_tokens: int = MAX_NEW_TOKENS) -> str:
        """The greedy answer to one question; images without a marker in it stand before it."""
        markers = question.count(IMAGE_MARKER)
        if markers not in {0, len(images)}:
            raise ConfigError(f"the question has {markers} image markers and there are {len(images)} images; leave them out")
        if not markers:
            question = f"{IMAGE_MARKER}\n" * len(images) + question
        ids = torch.tensor(tokenize_prompt(question, self.tokenizer, self.template))
        shape = self.model.connector.shape
        sizes = [image.size for image in images]
        lengths = [num_image_tokens(size, shape.image_side, shape.image_layout) for size in sizes]
        layout = lay_out([ids], [torch.full_like(ids, -100)], [lengths])
        if shape.image_layout is ImageLayout.PADDED:
            layout = mask_padding(layout, sizes, shape.image_side)
        pixels = [self._prepare(images, tower) for tower in self.model.towers] if images else []
        layout = move_layout(layout, self.device)
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
        found = self.model.generate(
            move_layout(layout, self.device),
            pixels,
            sizes,
            eos_token_id=self._end_ids,
            pad_token_id=self._end_ids[0],
            **settings,
        )
        return str(self.tokenizer.decode(found[0], skip_special_tokens=True)).strip()

    def _prepare(self, images: Sequence[Image.Image], tower: Tower) -> torch.Tensor:
        return torch.stack([prepare_image(image, tower.spec) for image in images]).to(self.device)


def _end_ids(tokenizer: PreTrainedTokenizerBase, template: Template) -> list[int]:
    """Tokens that end an answer."""
    ids = tokenizer(template.gpt_end, add_special_tokens=False).input_ids
    found = {ids[-1]} if ids else set()
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    return sorted(found)


def load_answerer(folder: Path, device: str = "cpu") -> Answerer:
    """An answerer from a checkpoint or an export, on a GPU in bfloat16. Raises CheckpointError for another folder."""
    config, model = load_run(folder)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model.to(device, dtype)
    model.move_towers(torch.device(device), dtype)
    return Answerer(config, model, build_tokenizer(config))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.chat", description="Ask a trained model about a picture.")
    parser.add_argument("checkpoint", type=Path, help="a run's checkpoint or export")
    parser.add_argument("image", type=Path, help="a picture; '-' for none")
    parser.add_argument("question")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS)
    given = parser.parse_args(arguments)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        images = [] if str(given.image) == "-" else [_read_image(given.image)]
        text = load_answerer(given.checkpoint, given.device).answer(given.question, images, max_new_tokens=given.max_new_tokens)
    except TrainingError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(text + "\n")
    return 0


def _read_image(path: Path) -> Image.Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"picture '{path}' cannot be read: {error.strerror}") from error
    return open_rgb(data, name=str(path), max_image_pixels=MAX_IMAGE_PIXELS)
