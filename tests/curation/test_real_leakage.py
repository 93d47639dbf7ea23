"""Look-alikes and leakage over the real slices: the cases that their README lists, measured beforehand."""

import numpy as np
import polars as pl
import pytest

from curation.catalog.spec import Catalog
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.near_image import Thumbnails, alike_within
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.steps.ingest import Ingest
from curation.storage.store import Store
from tests.curation.test_real_slices import catalog  # noqa: F401 (a fixture)
from tests.support.upstream import Built, build

pytestmark = pytest.mark.slow

SOURCES = ["opencqa", "vsr", "scibench", "tabmwp", "scienceqa_img", "im2latex_sample"]


@pytest.fixture(scope="module")
def held(catalog: Catalog, real_store: Store) -> Built:  # noqa: F811
    mixture = Mixture.model_validate({"name": "held", "include": SOURCES, "decontaminate": "all"})
    return build(catalog, real_store, mixture)


@pytest.fixture(scope="module")
def leaked(held: Built) -> dict[tuple[str, str], dict[str, int]]:
    return {(row["benchmark"], row["source"]): row for row in held.release.manifest["leakage"]}


def test_all_eight_shared_charts_are_found_and_dropped(held: Built, leaked: dict[tuple[str, str], dict[str, int]]):
    row = leaked["chartqa_test_complex", "opencqa"]
    assert (row["image_hits"], row["dropped"]) == (8, 8)
    assert held.pool.manifest["counts"]["opencqa"]["dropped"] == {"contaminated": 8}


@pytest.mark.parametrize(("benchmark", "pairs"), [("vsr_random_test", 702), ("vsr_zeroshot_test", 316)])
def test_captions_on_the_same_pictures_are_found_by_reference(
    benchmark: str, pairs: int, leaked: dict[tuple[str, str], dict[str, int]]
):
    row = leaked[benchmark, "vsr"]
    assert row["image_and_question_items"] == pairs
    assert row["question_items"] > pairs, "captions alone are short templates and over-flag"


def test_questions_of_scibench_in_mathvista_are_found_and_reported(leaked: dict[tuple[str, str], dict[str, int]]):
    row = leaked["mathvista_testmini", "scibench"]
    assert (row["question_items"], row["dropped"]) == (13, 0)


def test_templated_questions_drop_nothing_but_the_picture_that_is_shared(leaked: dict[tuple[str, str], dict[str, int]]):
    row = leaked["tabmwp_test1k", "tabmwp"]
    assert (row["image_hits"], row["dropped"]) == (1, 1)
    assert row["cover_items"] < 100, "313 share a 13-gram"


def test_no_sample_without_pixels_is_released_and_every_count_holds(held: Built):
    final = pl.read_parquet(held.folder / "verdicts.parquet")
    ours = final.filter(pl.col("source") == "vsr")
    assert len(ours) == 6_489
    assert ours["verdict"].unique().to_list() == ["drop"]
    assert (ours["reason"] == "no_pixels").sum() == held.pool.manifest["counts"]["vsr"]["kept"] > 3_000
    assert "vsr" not in held.release.manifest["sources"]


def test_pages_of_formulas_and_charts_of_one_style_stay_distinct(held: Built, catalog: Catalog, real_store: Store):  # noqa: F811
    exam = Ingest(catalog, catalog.benchmarks["chartqa_test_complex"]).run(real_store, InProcessPool())
    kept = [held.ingested["im2latex_sample"], held.ingested["opencqa"], exam]
    tables = [pl.read_parquet(path) for artefact in kept for path in artefact.files("thumbnails")]
    rows = pl.concat(tables).unique("pixels").sort("pixels")
    assert len(rows) > 1_197 + 400 + 100, "pages and charts differ in their pixels"
    packed = np.frombuffer(bytearray().join(rows["thumbnail"].to_list()), np.uint8).reshape(len(rows), -1)
    found = alike_within(Thumbnails(packed, rows["aspect"].to_numpy()), LookAlikeRule())
    # Not even two editions of one chart, 7918 and 7931, the second with another footnote.
    assert len(found.left) == 0
    assert found.unseen == 0
