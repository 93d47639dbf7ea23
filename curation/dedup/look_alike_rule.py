"""What counts as pictures that look alike, as users of the check may set it and as compiled code reads it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bounds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAlikeRule:
    """What counts as looking alike.

    Proposing. `max_bits`, `max_half_bits`: most bits in which two of 64 hashed signs differ, of whole pictures or windows, and
    of halves. `max_alike`: how many proposals a picture is compared with, the nearest first. `mirrored`: whether mirror images
    count.

    Comparing, by means over 3 x 3 cells of luma where nothing else is said. `difference`, `cropped_difference`: largest
    difference, as a share of the lower contrast (standard deviation plus 10); of pictures of a contrast below `faint`, mostly
    blank pages, `faint_difference`; below `blank` nothing but equal pixels counts. `local_difference`: largest difference as a
    share of what either picture varies by within two cells (plus 20). `block_difference`, `outer_difference`: largest mean
    squared difference in 8 x 8 cells, as a share of the lower variance there (plus 16), and of the higher one.
    `colour`, `cropped_colour`: largest difference in Cb or Cr, of 255; not asked where one picture is grey.
    `outlying`: largest difference of two cells, not blurred, as a share of what they vary by around, held against that of the
    80th most different cell (plus 0.03): a spot that differs where nothing else does was changed, not compressed. Not asked of
    photographs, on which a faint line of text may be laid.

    Text laid on. `overlaid`: the share of cells that may differ if they lie together, in a rectangle of at most `overlay_box`
    of the picture. Asked of photographs (at most `photo` of the cells are plain, at most `paper` as light as paper) nothing
    more, nor of bright ones (up to `bright_paper`, if `bright_detail` of the cells show detail). In a drawing a number in a few
    cells makes another picture, so there the rectangle must be as wide as `overlay_width` of the picture, at most as high as
    `overlay_height` and wider than high, `overlay.evidence` at least `overlay_evidence`, and `overlay_busy` of both must show
    detail.

    Crops. `crops`: cropped copies count, after fitting, of pictures of which at least `croppable` shows detail.
    """

    max_bits: int = 8
    max_half_bits: int = 6
    difference: float = 0.75
    cropped_difference: float = 1.1
    faint: float = 6.0
    faint_difference: float = 0.45
    blank: float = 0.5
    local_difference: float = 0.36
    block_difference: float = 1.3
    outer_difference: float = 0.9
    colour: float = 12.0
    cropped_colour: float = 24.0
    photo: float = 0.4
    paper: float = 0.3
    bright_paper: float = 0.55
    bright_detail: float = 0.4
    overlaid: float = 0.15
    overlay_box: float = 0.25
    overlay_width: float = 0.12
    overlay_height: float = 0.19
    overlay_evidence: float = 0.66
    overlay_busy: float = 0.12
    outlying: float = 3.0
    crops: bool = True
    croppable: float = 0.12
    mirrored: bool = False
    max_alike: int = 1_024

    def bounds(self, *, crops: bool) -> Bounds:
        """The bounds as the compiled check takes them, with or without `crops`."""
        return np.array([crops if name == "crops" else getattr(self, name) for name in _BOUNDS], np.float64)


_BOUNDS = (
    "difference", "cropped_difference", "faint", "faint_difference", "blank", "local_difference", "block_difference",
    "outer_difference", "colour", "cropped_colour", "photo", "paper", "bright_paper", "bright_detail", "overlaid",
    "overlay_box", "overlay_width", "overlay_height", "overlay_evidence", "overlay_busy", "outlying", "crops", "croppable",
)  # fmt: skip
(
    DIFFERENCE, CROPPED_DIFFERENCE, FAINT, FAINT_DIFFERENCE, BLANK, LOCAL, BLOCKWISE, OUTER, COLOUR, CROPPED_COLOUR,
    PHOTO, PAPER, BRIGHT_PAPER, BRIGHT_DETAIL, OVERLAID, OVERLAY_BOX, OVERLAY_WIDTH, OVERLAY_HEIGHT, OVERLAY_EVIDENCE,
    OVERLAY_BUSY, OUTLYING, CROPS, CROPPABLE,
) = range(len(_BOUNDS))  # fmt: skip
