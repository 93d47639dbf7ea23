"""The catalog that comes with the package holds the figures that the paper prints."""

from collections import Counter
from pathlib import Path

import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog, Category, ReleaseRows, Source
from curation.errors import CatalogError
from curation.format_prompts import PAPER_PROMPTS, prompt_for
from curation.upstream.inputs import find_records

REPOSITORY = Path(__file__).parents[2]
MIX_FILE = "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(REPOSITORY / "catalog.yaml")


@pytest.fixture(scope="module")
def paper(catalog: Catalog) -> dict[str, Source]:
    """The 65 sources of the paper's legend, without the other sets."""
    return {name: source for name, source in catalog.sources.items() if "other-set" not in source.tags}


def test_the_legend_has_65_sources_in_seven_categories(paper: dict[str, Source]):
    numbers = Counter(source.category.value for source in paper.values())
    assert len(paper) == 65
    assert numbers == {"ocr": 23, "general": 22, "language": 6, "math": 6, "code": 3, "science": 3, "counting": 2}


def test_the_legend_sums_to_its_totals_in_all_and_by_category(paper: dict[str, Source]):
    whole: Counter[Category] = Counter()
    chosen: Counter[Category] = Counter()
    for source in paper.values():
        assert source.expected.rounded
        assert source.expected.records is not None and source.expected.samples_7m is not None
        whole[source.category] += source.expected.records
        chosen[source.category] += source.expected.samples_7m
    same = {"language": 1_676_000, "general": 2_347_000, "math": 226_000, "science": 205_000}
    assert whole == {**same, "ocr": 3_494_000, "counting": 950_000, "code": 847_500}
    assert chosen == {**same, "ocr": 1_944_000, "counting": 600_000, "code": 57_500}
    assert (whole.total(), chosen.total()) == (9_745_500, 7_055_500)
    shares = {category.value: round(100 * number / chosen.total(), 1) for category, number in chosen.items()}
    printed = {"language": 23.8, "general": 33.3, "ocr": 27.6, "counting": 8.5, "math": 3.2, "code": 0.8, "science": 2.9}
    assert shares == printed


@pytest.mark.parametrize(
    ("cap", "records"), [(150_000, 4_018_500), (250_000, 5_219_500), (350_000, 5_883_500), (450_000, 6_483_500)]
)
def test_a_cap_per_annotation_file_gives_the_sizes_of_the_threshold_study(paper: dict[str, Source], cap: int, records: int):
    files = [(name, size or 0) for name, source in paper.items() for size in source.annotation_files.values()]
    assert len(files) == 67
    assert sum(min(size, cap) for name, size in files if name != "wizardcoder") == records


def test_prompts_are_those_of_table_17_on_its_22_sources(paper: dict[str, Source]):
    table = {
        "sketchyvqa": [0], "oodvqa": [0], "vizwiz": [7], "q-instruct": [2, 0], "chartqa": [1], "docvqa": [3], "dvqa": [0],
        "ai2d": [0], "screenqa": [0, 4], "clevr": [0], "tallyqa": [0], "pathvqa": [0], "mathinstruct": [6], "design2code": [5],
        "iconqa": [8, 0], "hitab": [0], "wtq": [0], "wikisql": [0], "inter-gps": [8], "visual7w": [2], "tqa": [8], "raven": [0],
    }  # fmt: skip
    assert len(table) == 22
    assert {index for indices in table.values() for index in indices} == set(range(len(PAPER_PROMPTS)))
    given = {name: source.prompt_texts for name, source in paper.items() if source.prompts}
    expected = {name: tuple(PAPER_PROMPTS[index] for index in indices) for name, indices in table.items()}
    expected["screenqa"] = (" ".join(expected["screenqa"]),)
    assert given == expected


@pytest.mark.parametrize(
    ("name", "answer", "index"),
    [
        ("q-instruct", "B", 2),
        ("q-instruct", "(A).", 2),
        ("q-instruct", "Very blurry", 0),
        ("q-instruct", "The picture is rather dark and its left half is out of focus.", None),
        ("iconqa", "C", 8),
        ("iconqa", "12", 0),
    ],
)
def test_of_two_prompts_the_answer_decides(paper: dict[str, Source], name: str, answer: str, index: int | None):
    assert prompt_for(paper[name].prompts, "What?", answer) == (None if index is None else PAPER_PROMPTS[index])


def test_every_source_claims_rows_of_the_release_that_no_other_claims(catalog: Catalog, paper: dict[str, Source]):
    claims = catalog.claims("cambrian-10m")
    assert {row.name for row, _, _ in claims} == set(paper)
    plain = [location for _, _, location in claims if location.where is None]
    for location in plain:
        for source in location.sources:
            for folder in location.folders:
                image = None if folder is None else f"{folder.replace('*', 'any')}/1.png"
                assert sum(other.claims(source, image) for other in plain) == 1, (source, folder)


def test_what_shares_file_and_folder_is_told_apart_in_order(catalog: Catalog):
    shared = [(row.name, location) for row, _, location in catalog.claims("cambrian-10m") if location.where is not None]
    assert [name for name, _ in shared] == ["a-okvqa", "refcoco", "okvqa", "vqav2", "llava150k"]
    assert all(location.claims(MIX_FILE, "coco/train2017/1.jpg") for _, location in shared)
    assert shared[-1][1].is_rest


def test_other_sets_are_told_from_the_legend_by_their_tag(catalog: Catalog, paper: dict[str, Source]):
    others = {name: catalog.sources[name].expected.records for name in catalog.sources if name not in paper}
    assert others == {"cambrian-alignment": 2_500_000, "llava-665k": 665_000, "cambrian-737k": 737_000}


def test_archives_of_the_release_are_split_where_they_were_published_split(catalog: Catalog):
    release = catalog.upstreams["cambrian-10m"]
    assert release.archives_of("dvqa") == ("dvqa.tar.gz",)
    assert release.archives_of("allava") == ("allava.tar.gz_part*",)
    assert release.archives_of("data_engine")[0] == "data_engine/partI.tar.gz"
    assert catalog.upstreams["cambrian-alignment"].archives_of("sam") == ("sam.tar_part*",)


def test_the_fifteen_evaluation_sets_have_the_pictures_of_the_leakage_table(catalog: Catalog):
    images = [benchmark.expected.images for benchmark in catalog.benchmarks.values()]
    assert len(images) == 15
    assert sum(number or 0 for number in images) == 49_535


def test_originals_are_named_where_they_are_known(paper: dict[str, Source]):
    named = {name: source.original for name, source in paper.items() if source.original}
    hubs = {name: [str(original.location) for original in found] for name, found in named.items()}
    assert len(named) == 40
    assert sum("cauldron" in found[0] for found in hubs.values()) == 20
    assert hubs["allava"] == ["hf://datasets/FreedomIntelligence/ALLaVA-4V"] * 2
    assert all(original.part for found in named.values() for original in found), "one that names its place alone is refused"


def test_records_that_are_not_here_are_said_to_be_where_they_are(catalog: Catalog):
    source = catalog.source("dvqa")
    with pytest.raises(CatalogError, match=r"source 'dvqa': its records lie at cambrian-10m:dvqa_2325k\.json"):
        find_records(catalog, source, source.parts[0])


def test_rows_of_a_release_are_the_only_location_of_the_legend(paper: dict[str, Source]):
    assert all(isinstance(part.location, ReleaseRows) for source in paper.values() for part in source.parts)
