"""Samples of a stream to one batch: tokens, labels, pixels for every tower, and the layout of all of it.

Runs in DataLoader workers; nothing here touches a device. A text-only sample brings no picture along, and a batch of them
no pixels at all.

Shapes: I images of the batch in order of appearance, S pixels a side of a tower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """`pixels` holds [I, 3, S, S] a tower, or nothing when I is 0; the other lists have one entry a sample.

    `num_given` counts the samples that came in, `too_long` holds the ids of those left out because nothing to train on stands
    before the limit of tokens.
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

    def first_target(self) -> int:
        """The place of the first trained token in the spliced sequence; the sequence's length where there is none."""
        widths = torch.ones_like(self.ids)
        widths[self.ids == IMAGE_ID] = torch.tensor(self.lengths, dtype=widths.dtype)
        trained = (self.labels != IGNORE_ID).nonzero()
        return int(widths[: int(trained[0])].sum()) if len(trained) else int(widths.sum())


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes batches; `specs` say how each tower wants its images, `image_side` is the side of the image grid.

    A sample longer than `max_tokens` is cut there. One without any answer before the cut is left out and told of.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    specs: tuple[ImageSpec, ...]
    image_side: int
    max_tokens: int
    image_layout: ImageLayout = ImageLayout.CROPPED

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """A batch of samples with decoded images. Raises SampleError, naming the sample, for one that does not fit."""
        tokenized = [self._tokenize(sample) for sample in samples]
        kept = [one for one in tokenized if one.first_target() < self.max_tokens]
        images = [image for one in kept for image in one.sample["images"]]
        pixels = [torch.stack([prepare_image(image, spec) for image in images]) for spec in self.specs] if images else []
        sizes = tuple(image.size for image in images)
        layout = lay_out(
            [one.ids for one in kept], [one.labels for one in kept], [one.lengths for one in kept], max_tokens=self.max_tokens
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
            num_given=len(samples),
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
