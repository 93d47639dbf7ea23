"""Every picture of the real slices against every other: what is merged is listed here, and was looked at side by side."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_within
from curation.imaging import examine
from tests.support.real_slices import real_slices

ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}
GROUPS = [
    *({111, 84},),
    *({1041, 577}, {1165, 330}, {121, 1696, 3679}, {1223, 640}, {1359, 2660}, {1387, 3132}, {271, 880}, {517, 140}),
    *({584, 445}, {674, 1281}, {691, 1669, 1951}, {1251, 3654}, {1309, 2055}, {1389, 1976}, {1558, 2538, 3495}),
    *({1762, 2095, 849}, {2259, 2716}, {2383, 3284, 886}, {2978, 338}, {2993, 305}),
]
"""Folders of SciBench (the first: one figure, cut differently) and of ScienceQA (the same maps with the same mark, saved with
other colours of the ground; maps that mark another state, as 92 and 781, are not among them)."""


@pytest.mark.extra
def test_of_all_real_pictures_only_the_listed_ones_are_merged():
    root = real_slices()
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS)
    assert len(paths) == 5_325
    shown = {}
    for path in paths:
        facts = examine(path.read_bytes(), max_pixels=10**8)
        shown.setdefault(facts.pixels, (str(path.relative_to(root)), facts))
    names = [name for name, _ in shown.values()]
    packed = np.stack([np.frombuffer(facts.thumbnail, np.uint8) for _, facts in shown.values()])
    aspects = np.array([facts.aspect for _, facts in shown.values()], np.float32)
    found = alike_within(Thumbnails(packed, aspects), LookAlikeRule())
    assert found.unseen == 0
    folders = [int(Path(name).parent.name) if Path(name).parent.name.isdigit() else name for name in names]
    merged = [frozenset((folders[a], folders[b])) for a, b in zip(found.left, found.right, strict=True)]
    expected = [frozenset(pair) for group in GROUPS for pair in combinations(group, 2)]
    assert sorted(merged, key=sorted) == sorted(expected, key=sorted)
