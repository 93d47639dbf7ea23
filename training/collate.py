"""Samples of a stream to one batch: tokens, labels, pixels for every tower, and the layout of all of it.

Runs in DataLoader workers; nothing here touches a device. A text-only sample brings no picture along, and a batch of them
no pixels at all.

Shapes: I images of the batch in order of appearance, S pixels a side of a tower.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.chat import Template, tokenize_conversation
from training.errors import SampleError
from training.layout import IGNORE_ID, IMAGE_ID, Layout, lay_out
from training.members import Sample
from training.model.cambrian import move_layout
from training.model.geometry import ImageLayout, ImageSize, num_image_tokens
from training.model.padding import mask_padding
from training.model.preprocess import ImageSpec, prepare_image
from training.packing import first_fit_decreasing


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """`pixels` holds [I, 3, S, S] a tower, or nothing when I is 0; the other lists have one entry a sample.

    `num_given` counts what came of the stream, samples or packs of them; `too_long` holds the ids of samples left out because
    nothing to train on stands before the limit of tokens.
    """

    layout: Layout
    pixels: tuple[Tensor, ...]
    image_sizes: tuple[ImageSize, ...]
    sample_ids: tuple[str, ...]
    sources: tuple[str, ...]
    categories: tuple[str, ...]
    num_given: int
    too_long: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        return replace(self, layout=move_layout(self.layout, device), pixels=tuple(x.to(device) for x in self.pixels))


@dataclass(frozen=True, slots=True)
class _Tokenized:
    sample: Sample
    ids: Tensor
    labels: Tensor
    lengths: list[int]

    def num_tokens(self) -> int:
        """Places of the spliced sequence."""
        return len(self.ids) - len(self.lengths) + sum(self.lengths)

    def first_target(self) -> int:
        """The place of the first trained token in the spliced sequence; the sequence's length where there is none."""
        trained = (self.labels != IGNORE_ID).nonzero()
        if not len(trained):
            return self.num_tokens()
        widths = torch.ones_like(self.ids)
        widths[self.ids == IMAGE_ID] = torch.tensor(self.lengths, dtype=widths.dtype)
        return int(widths[: int(trained[0])].sum())


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes batches; `specs` say how each tower wants its images, `image_side` is the side of the image grid.

    A sample longer than `max_tokens` is cut there. One without any answer before the cut is left out and told of. With
    `is_packed` samples come in packs and share rows of at most `max_tokens`. Packs were made from the counts of an index, so a
    batch's samples are packed anew by their true lengths: none is cut because of another.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    specs: tuple[ImageSpec, ...]
    image_side: int
    max_tokens: int
    image_layout: ImageLayout = ImageLayout.CROPPED
    is_packed: bool = False

    def __call__(self, given: Sequence[Any]) -> Batch:
        """A batch of samples with decoded images, or of packs, lists of such. Raises SampleError, naming the sample, for one
        that does not fit.
        """
        samples: Iterable[Sample] = chain.from_iterable(given) if self.is_packed else given
        tokenized = [self._tokenize(sample) for sample in samples]
        kept = [one for one in tokenized if one.first_target() < self.max_tokens]
        row_sizes = None
        if self.is_packed:
            rows = first_fit_decreasing([min(one.num_tokens(), self.max_tokens) for one in kept], self.max_tokens)
            row_sizes = [len(row) for row in rows]
            kept = [kept[number] for row in rows for number in row]
        images = [image for one in kept for image in one.sample["images"]]
        pixels = [torch.stack([prepare_image(image, spec) for image in images]) for spec in self.specs] if images else []
        sizes = tuple(image.size for image in images)
        layout = lay_out(
            [one.ids for one in kept],
            [one.labels for one in kept],
            [one.lengths for one in kept],
            max_tokens=self.max_tokens,
            row_sizes=row_sizes,
        )
        if self.image_layout is ImageLayout.PADDED:
            layout = mask_padding(layout, sizes, self.image_side)
        return Batch(
            layout=layout,
            pixels=tuple(pixels),
            image_sizes=sizes,
            sample_ids=tuple(one.sample["id"] for one in kept),
            sources=tuple(one.sample["source"] for one in kept),
            categories=tuple(one.sample["category"] for one in kept),
            num_given=len(given),
            too_long=tuple(one.sample["id"] for one in tokenized if one.first_target() >= self.max_tokens),
        )

    def _tokenize(self, sample: Sample) -> _Tokenized:
        try:
            ids, labels = tokenize_conversation(sample["conversations"], self.tokenizer, self.template)
        except SampleError as error:
            raise SampleError(f"sample '{sample['id']}' of source '{sample['source']}': {error}") from error
        images = sample["images"]
        if ids.count(IMAGE_ID) != len(images):
            raise SampleError(
                f"sample '{sample['id']}' of source '{sample['source']}' has {ids.count(IMAGE_ID)} image markers in its "
                f"questions and {len(images)} images; mend or exclude it"
            )
        lengths = [num_image_tokens(image.size, self.image_side, self.image_layout) for image in images]
        return _Tokenized(sample, torch.tensor(ids), torch.tensor(labels), lengths)
