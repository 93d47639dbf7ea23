"""Where every token of a batch stands: text and image tokens of several samples spliced into one padded rectangle.

This is the unpadded layout: an image takes as many places as its cropped grid with newlines has tokens, wherever its
marker stands; a sample without images takes no place for one. A row holds one sample, or several behind each other that know
nothing of each other (packing). The layout is numbers only, so it is made in the collate function, before anything is on a
device.

Shapes: B rows, T places a row (the longest), S samples, W text tokens of all samples together, V image tokens likewise.
"""
# ruff: noqa: N806, N815 - names carry the shape suffixes above

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from training.errors import SampleError

IMAGE_ID = -200
"""Stands for an image among token ids, as in the published code."""
IGNORE_ID = -100
"""Label of a place that is not trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A batch as places.

    `text_W` are all text ids end to end. `origin_BT` says what stands at a place: 0..W-1 a text token, W..W+V-1 an image
    token, W+V nothing (padding on the right); `samples_BT` which sample it belongs to, 0..S-1, -1 none. Labels are IGNORE_ID
    on images, padding, and the first token of a sample behind another one, which nothing before it could tell. Positions begin
    at 0 in every sample.
    """

    text_W: Tensor
    origin_BT: Tensor
    labels_BT: Tensor
    attention_BT: Tensor
    positions_BT: Tensor
    samples_BT: Tensor
    num_image_tokens: int
    num_samples: int

    @property
    def is_packed(self) -> bool:
        """Whether a row holds more than one sample."""
        return len(self.origin_BT) < self.num_samples


def lay_out(
    input_ids: Sequence[Tensor],
    labels: Sequence[Tensor],
    image_lengths: Sequence[Sequence[int]],
    *,
    max_tokens: int | None = None,
    row_sizes: Sequence[int] | None = None,
) -> Layout:
    """Places of samples whose ids hold one IMAGE_ID an image; `image_lengths` counts each image's tokens by sample.

    Samples are cut at `max_tokens`. `row_sizes` are the numbers of samples in each row, in their order; left out, one each.
    Raises SampleError where markers and images of a sample differ in number.
    """
    num_text = sum(int((ids != IMAGE_ID).sum()) for ids in input_ids)
    num_image = sum(sum(lengths) for lengths in image_lengths)
    origins, spliced_labels = [], []
    next_text, next_image = 0, num_text
    for number, (ids, own_labels, lengths) in enumerate(zip(input_ids, labels, image_lengths, strict=True)):
        markers = (ids == IMAGE_ID).nonzero().squeeze(1).tolist()
        if len(markers) != len(lengths):
            raise SampleError(f"sample {number} of the batch has {len(markers)} image markers and {len(lengths)} images")
        parts, label_parts, first = [], [], 0
        for marker, length in zip([*markers, len(ids)], [*lengths, 0], strict=True):
            parts.append(torch.arange(next_text, next_text + marker - first))
            next_text += marker - first
            label_parts.append(own_labels[first:marker])
            parts.append(torch.arange(next_image, next_image + length))
            next_image += length
            label_parts.append(torch.full((length,), IGNORE_ID))
            first = marker + 1
        origins.append(torch.cat(parts)[:max_tokens])
        spliced_labels.append(torch.cat(label_parts)[:max_tokens])
    row_sizes = [1] * len(origins) if row_sizes is None else row_sizes
    origin_BT = _rows(origins, row_sizes, num_text + num_image)
    return Layout(
        text_W=torch.cat([ids[ids != IMAGE_ID] for ids in input_ids]) if origins else torch.empty(0, dtype=torch.long),
        origin_BT=origin_BT,
        labels_BT=_rows(_without_starts(spliced_labels, row_sizes), row_sizes, IGNORE_ID),
        attention_BT=origin_BT != num_text + num_image,
        positions_BT=_rows([torch.arange(len(origin)) for origin in origins], row_sizes, 0),
        samples_BT=_rows([torch.full_like(origin, number) for number, origin in enumerate(origins)], row_sizes, -1),
        num_image_tokens=num_image,
        num_samples=len(origins),
    )


def _without_starts(labels: Sequence[Tensor], row_sizes: Sequence[int]) -> list[Tensor]:
    """Labels with none on the first token of a sample that follows another one in its row."""
    is_first = [place == 0 for size in row_sizes for place in range(size)]
    return [
        own if first else torch.cat([torch.full_like(own[:1], IGNORE_ID), own[1:]])
        for own, first in zip(labels, is_first, strict=True)
    ]


def _rows(samples: Sequence[Tensor], row_sizes: Sequence[int], value: int) -> Tensor:
    """Samples in rows, filled up with a value."""
    if not samples:
        return torch.empty(0, 0, dtype=torch.long)
    edges = [0, *accumulate(row_sizes)]
    rows = [torch.cat(list(samples[begin:end])) for begin, end in pairwise(edges)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
