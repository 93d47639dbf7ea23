"""Samples of a stream to one batch: tokens, labels, pixels for every tower, and the layout of all of it.

Runs in DataLoader workers; nothing here touches a device. A text-only sample brings no picture along, and a batch of them
no pixels at all.

Shapes: I images of the batch in order of appearance, S pixels a side of a tower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.chat import Template, tokenize_conversation
from training.decode import Sample
from training.errors import SampleError
from training.layout import IMAGE_ID, Layout, lay_out
from training.model.geometry import ImageLayout, ImageSize, num_image_tokens
from training.model.preprocess import ImageSpec, prepare_image


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """`pixels` holds [I, 3, S, S] a tower, or nothing when I is 0; the other lists have one entry a sample."""

    layout: Layout
    pixels: tuple[Tensor, ...]
    image_sizes: tuple[ImageSize, ...]
    sample_ids: tuple[str, ...]
    sources: tuple[str, ...]
    categories: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        moved = {field.name: getattr(self.layout, field.name) for field in fields(Layout)}
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in moved.items()}
        return replace(self, layout=Layout(**moved), pixels=tuple(x.to(device) for x in self.pixels))


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes batches; `specs` say how each tower wants its images, `image_side` is the side of the image grid."""

    tokenizer: PreTrainedTokenizerBase
    template: Template
    specs: tuple[ImageSpec, ...]
    image_side: int
    max_tokens: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """A batch of samples with decoded images. Raises SampleError, naming the sample, for one that does not fit."""
        input_ids, labels, lengths = [], [], []
        images = [image for sample in samples for image in sample["images"]]
        for sample in samples:
            ids, own_labels = self._tokenize(sample)
            input_ids.append(torch.tensor(ids))
            labels.append(torch.tensor(own_labels))
            lengths.append([num_image_tokens(image.size, self.image_side) for image in sample["images"]])
        pixels = [torch.stack([prepare_image(image, spec) for image in images]) for spec in self.specs] if images else []
        return Batch(
            layout=lay_out(input_ids, labels, lengths, max_tokens=self.max_tokens),
            pixels=tuple(pixels),
            image_sizes=tuple(image.size for image in images),
            sample_ids=tuple(sample["id"] for sample in samples),
            sources=tuple(sample["source"] for sample in samples),
            categories=tuple(sample["category"] for sample in samples),
        )

    def _tokenize(self, sample: Sample) -> tuple[list[int], list[int]]:
        try:
            ids, labels = tokenize_conversation(sample["conversations"], self.tokenizer, self.template)
        except SampleError as error:
            raise SampleError(f"sample '{sample['id']}' of source '{sample['source']}': {error}") from error
        if ids.count(IMAGE_ID) != len(sample["images"]):
            raise SampleError(
                f"sample '{sample['id']}' of source '{sample['source']}' has {ids.count(IMAGE_ID)} image markers in its "
                f"questions and {len(sample['images'])} images; mend or exclude it"
            )
        return ids, labels
