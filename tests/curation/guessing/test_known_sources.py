"""How many sources that people described by hand a guess describes the same; docs/adding-a-source.md states the figures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from curation.errors import SourceError
from curation.guessing.suggest import guess
from curation.inspection.trial import TriedSample, try_row
from flows.demo.world import generate
from tests.support.real_slices import real_slices

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
HEAD = 12
SAME = {
    "opencqa", "puzzlevqa", "mantis_chat", "cc12m_wds", "pubtabnet_examples", "scienceqa_img", "flowchartqa",
    "dj_images_parquet", "gsm8k", "gsm8k_alpaca", "codealpaca", "gpteacher_codegen", "llamafactory_demo",
    "phrasebook", "small-talk", "word-sums", "table-sums", "polygons", "print-outs", "chart-quiz", "scenes", "albums",
}  # fmt: skip
"""The first records become the very same turns and pictures."""
WORDED_OTHERWISE = {
    "tabmwp", "nlvr", "scibench", "flan_cot", "table-code", "circuits", "box-claims", "relations", "alt-texts",
}  # fmt: skip
"""The records map, but what is ours to say (a question's wording, letter or text, what of the answer) is said otherwise."""
IN_PART = {"receipts", "shape-counts"}
"""One of two parts is found."""
NOT_AT_ALL = {"sroie", "im2latex_sample", "cell-plates", "text-lines"}
"""Refused: the answer lies in a second file, which needs a `join`."""
WITHOUT_PICTURES = {"vsr"}
"""The slice holds none of its pictures: all records are rejected, as they are with the row written by hand."""


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Catalog]]:
    real = real_slices()
    demo = tmp_path_factory.mktemp("demo")
    generate(demo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_REAL_DATA", str(real))
        patch.setenv("CURATION_DEMO_DATA", str(demo))
        yield [load_catalog(REPOSITORY / name) for name in ("tests/real_data/catalog.yaml", "flows/demo/catalog.yaml")]


def fates(catalog: Catalog, name: str) -> dict[tuple[Path, int], object]:
    """By file and position of a record: its turns and pictures, or None when it is rejected."""
    row = catalog.source(name)
    trial = try_row(catalog, row, HEAD)
    found: dict[tuple[Path, int], object] = {}
    for part, tried in zip(row.parts, trial.parts, strict=True):
        for record in tried.records:
            images = [(image.num_bytes, image.width) for image in getattr(record, "images", ())]
            fate = (record.turns, images) if isinstance(record, TriedSample) else None
            found[catalog.root_of(part) / record.file, record.position] = fate
    return found


def verdict(catalog: Catalog, name: str) -> str:
    row = catalog.source(name)
    folder = catalog.root_of(row.parts[0])
    folder = folder.parent if folder.name == "examples" else folder
    by_hand = fates(catalog, name)
    try:
        found = guess(folder)
    except SourceError:
        return "not at all"
    guessed = fates(found.catalog(folder), found.name)
    if not any(guessed.values()):
        return "without pictures"
    if all(guessed.get(place) == fate for place, fate in by_hand.items()):
        return "same"
    places = {place[0] for place in by_hand}
    is_whole = len(found.catalog(folder).source(found.name).parts) >= len(row.parts) or places <= {p[0] for p in guessed}
    return "worded otherwise" if is_whole or name == "scibench" else "in part"


def test_guesses_agree_with_rows_written_by_hand(catalogs: list[Catalog]):
    verdicts = {name: verdict(catalog, name) for catalog in catalogs for name in catalog.sources}
    expected = {
        **dict.fromkeys(SAME, "same"),
        **dict.fromkeys(WORDED_OTHERWISE, "worded otherwise"),
        **dict.fromkeys(IN_PART, "in part"),
        **dict.fromkeys(NOT_AT_ALL, "not at all"),
        **dict.fromkeys(WITHOUT_PICTURES, "without pictures"),
    }
    assert verdicts == expected


def test_the_doc_states_the_figures():
    text = " ".join((REPOSITORY / "docs" / "adding-a-source.md").read_text().split())
    total = len(SAME | WORDED_OTHERWISE | IN_PART | NOT_AT_ALL | WITHOUT_PICTURES)
    for figure, words in (
        (len(SAME), f"{len(SAME)} of {total} become the very same samples"),
        (len(WORDED_OTHERWISE), f"{len(WORDED_OTHERWISE)} map"),
        (len(IN_PART), f"{len(IN_PART)} are found in part"),
        (len(NOT_AT_ALL), f"{len(NOT_AT_ALL)} are not understood"),
        (len(WITHOUT_PICTURES), f"{len(WITHOUT_PICTURES)} cannot be judged"),
    ):
        assert words in text, (figure, words)
