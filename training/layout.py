"""Where every token of a batch stands: text and image tokens of several samples spliced into one padded rectangle.

This is the unpadded layout: an image takes as many places as its cropped grid with newlines has tokens, wherever its
marker stands; a sample without images takes no place for one. The layout is numbers only, so it is made in the collate
function, before anything is on a device.

Shapes: B samples, T places a sample (the longest), W text tokens of all samples together, V image tokens likewise.
"""
# ruff: noqa: N806, N815 - names carry the shape suffixes above

from collections.abc import Sequence
from dataclasses import dataclass

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
    token, W+V nothing (padding on the right). Labels are IGNORE_ID on images and padding.
    """

    text_W: Tensor
    origin_BT: Tensor
    labels_BT: Tensor
    attention_BT: Tensor
    positions_BT: Tensor
    num_image_tokens: int


def lay_out(
    input_ids: Sequence[Tensor],
    labels: Sequence[Tensor],
    image_lengths: Sequence[Sequence[int]],
    *,
    max_tokens: int | None = None,
) -> Layout:
    """Places of samples whose ids hold one IMAGE_ID an image; `image_lengths` counts each image's tokens by sample.

    Sequences are cut at `max_tokens`. Raises SampleError where markers and images of a sample differ in number.
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
    lengths_B = torch.tensor([len(origin) for origin in origins])
    positions = torch.arange(int(lengths_B.max()) if origins else 0)
    attention_BT = positions < lengths_B.unsqueeze(1)
    return Layout(
        text_W=torch.cat([ids[ids != IMAGE_ID] for ids in input_ids]) if origins else torch.empty(0, dtype=torch.long),
        origin_BT=_pad(origins, num_text + num_image),
        labels_BT=_pad(spliced_labels, IGNORE_ID),
        attention_BT=attention_BT,
        positions_BT=positions * attention_BT,
        num_image_tokens=num_image,
    )


def _pad(rows: Sequence[Tensor], value: int) -> Tensor:
    if not rows:
        return torch.empty(0, 0, dtype=torch.long)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
