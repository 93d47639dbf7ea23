"""Real public data, as published: what it holds is known (see README.md beside it) and must come out, record for record."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from curation.inspection.verification import verify
from curation.mixture.dedup import DedupSpec
from curation.runtime.pool import InProcessPool
from curation.steps.clean import Clean
from curation.steps.deduplicate import Deduplicate
from curation.steps.ingest import Ingest
from curation.steps.sign import Sign
from curation.storage.store import Store
from tests.support.real_slices import real_slices
from tests.support.upstream import Built, build, rows

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
CATALOG = REPOSITORY / "tests" / "real_data" / "catalog.yaml"
RECORDS = {
    "opencqa": 420, "tabmwp": 604, "nlvr": 280, "sroie": 46, "puzzlevqa": 240, "mantis_chat": 67, "cc12m_wds": 32,
    "im2latex_sample": 1_200, "pubtabnet_examples": 20, "scienceqa_img": 158, "scibench": 843, "flowchartqa": 160,
    "dj_images_parquet": 3, "vsr": 6_489, "gsm8k": 7_473, "gsm8k_alpaca": 2_500, "flan_cot": 10_373, "codealpaca": 3_517,
    "gpteacher_codegen": 1_750, "llamafactory_demo": 2_299,
}  # fmt: skip
REJECTED = {
    "im2latex_sample": {"empty_answer": 3},
    "codealpaca": {"empty_answer": 2},
}
BENCHMARKS = {
    "chartqa_test_complex": 733, "opencqa_test": 1_159, "tabmwp_test1k": 1_000, "nlvr_test": 600, "gsm8k_test": 1_319,
    "vsr_random_test": 2_195, "vsr_zeroshot_test": 1_222, "scienceqa_img_test": 65, "mathvista_testmini": 1_000,
    "mathvision": 200, "theoremqa_test": 800,
}  # fmt: skip
BY_REFERENCE = {
    "vsr": 6_489, "chartqa_test_complex": 500, "opencqa_test": 1_159, "tabmwp_test1k": 850, "nlvr_test": 600,
    "vsr_random_test": 2_195, "vsr_zeroshot_test": 1_222, "mathvista_testmini": 1_000,
}  # fmt: skip
"""Records whose picture is not in the slice and known by its name."""
REPAIRED = {"opencqa": {"extension_corrected": 68}, "scibench": {"extension_corrected": 10}}


@pytest.fixture(scope="module")
def catalog() -> Iterator[Catalog]:
    folder = real_slices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_REAL_DATA", str(folder))
        yield load_catalog(CATALOG)


@pytest.fixture(scope="module")
def real(catalog: Catalog, real_store: Store) -> Built:
    """A release of everything, made once."""
    return build(catalog, real_store)


@pytest.fixture(scope="module")
def verdicts(real: Built) -> pl.DataFrame:
    return rows(real.pool, "verdicts")


def test_every_source_is_listed_here(catalog: Catalog):
    assert RECORDS.keys() == catalog.sources.keys()


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_a_sample_or_rejected(real: Built, name: str):
    artefact = real.ingested[name]
    counts = artefact.manifest["counts"]
    assert counts["records"] == RECORDS[name] == artefact.manifest["expected_records"]
    assert counts["rejected"] == REJECTED.get(name, {})
    assert counts["repaired"] == REPAIRED.get(name, {})
    assert counts["samples"] == RECORDS[name] - sum(counts["rejected"].values())
    if counts["samples"]:
        samples = rows(artefact, "samples")
        assert len(samples) == counts["samples"]
        assert samples["sample_id"].is_unique().all()
    if counts["rejected"]:
        assert len(rows(artefact, "rejected")) == sum(counts["rejected"].values())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_are_read_by_rows_alone(catalog: Catalog, real_store: Store, name: str):
    benchmark = catalog.benchmarks[name]
    counts = Ingest(catalog, benchmark).run(real_store, InProcessPool()).manifest["counts"]
    assert counts["records"] == BENCHMARKS[name] == benchmark.expected.records
    assert counts["rejected"] == {}
    assert counts["samples"] == BENCHMARKS[name]
    assert counts.get("by_reference", 0) == BY_REFERENCE.get(name, 0)


def test_every_benchmark_is_listed_here(catalog: Catalog):
    assert BENCHMARKS.keys() == catalog.benchmarks.keys()


def test_every_sample_has_one_verdict(real: Built, verdicts: pl.DataFrame):
    kept = sum(artefact.manifest["counts"]["samples"] for artefact in real.ingested.values())
    assert len(verdicts) == kept == verdicts["sample_id"].n_unique()


def test_instructions_published_twice_are_kept_once(verdicts: pl.DataFrame):
    dropped = verdicts.filter(pl.col("reason") == "exact_duplicate")
    pairs = dropped.select("source", twin=pl.col("twin_id").str.replace(r"-[0-9a-f]{24}(-d\d+)?$", ""))
    crossing = pairs.filter(pl.concat_list(pl.col("source", "twin")).list.sort() == ["codealpaca", "gpteacher_codegen"])
    assert 749 <= len(crossing) <= 750


def test_all_distinct_chinese_records_are_kept(real: Built, verdicts: pl.DataFrame):
    chinese = rows(real.ingested["llamafactory_demo"], "samples").filter(pl.col("origin_file") == "alpaca_zh_demo.json")
    assert len(chinese) == 1_000
    kept = verdicts.filter(pl.col("verdict") == "keep").join(chinese, on="sample_id", how="semi")
    assert len(kept) == 992


def test_pages_that_look_alike_are_no_duplicates(verdicts: pl.DataFrame):
    pages = verdicts.filter(pl.col("source") == "im2latex_sample")
    assert (len(pages), pages["verdict"].unique().to_list()) == (1_197, ["keep"])


def test_the_release_of_everything_holds(real: Built, verdicts: pl.DataFrame):
    found = verify(real.folder, InProcessPool())
    assert found.problems == []
    final = pl.read_parquet(real.folder / "verdicts.parquet")
    unseen = final.filter(pl.col("reason") == "no_pixels")
    assert unseen["source"].unique().to_list() == ["vsr"]
    assert found.num_samples + len(unseen) == (verdicts["verdict"] == "keep").sum()
    for name, counts in real.release.manifest["conservation"].items():
        assert counts["records"] == RECORDS[name]
        assert counts["samples"] == counts["kept"] + sum(counts["dropped"].values())


# --- Near duplicates ----------------------------------------------------------------------------------------------------


def judged(real: Built, catalog: Catalog, **settings: object) -> pl.DataFrame:
    """Verdicts over everything under `dedup:` settings, with the source of each twin."""
    store, pool, spec = Store.at(str(real.folder.parents[2])), InProcessPool(), DedupSpec.model_validate(settings)
    cleaned = {
        name: Clean(name, catalog.source(name).prompt_texts).run(found, store, pool) for name, found in real.ingested.items()
    }
    signed = {
        name: Sign(name, catalog.source(name).prompt_texts, spec.signing()).run(found, store, pool)
        for name, found in real.ingested.items()
    }
    found = rows(Deduplicate(spec).run(cleaned, store, signed, pool, real.ingested), "verdicts")
    return found.with_columns(twin=pl.col("twin_id").str.replace(r"-[0-9a-f]{24}(-d\d+)?$", ""))


@pytest.fixture(scope="module")
def near(real: Built, catalog: Catalog) -> pl.DataFrame:
    return judged(real, catalog)


def test_one_question_in_three_formats_is_kept_once(real: Built, catalog: Catalog):
    found = judged(real, catalog, key="question", sources=["gsm8k", "flan_cot", "gsm8k_alpaca", "codealpaca"])
    crossing = found.filter(pl.col("twin") != pl.col("source")).group_by("source", "twin").len()
    numbers = {(source, twin): number for source, twin, number in crossing.iter_rows()}
    assert numbers["flan_cot", "gsm8k"] == 3_000
    assert numbers["gsm8k_alpaca", "gsm8k"] == 2_500
    assert numbers["gpteacher_codegen", "codealpaca"] >= 749
    assert numbers.keys() == {("flan_cot", "gsm8k"), ("gsm8k_alpaca", "gsm8k"), ("gpteacher_codegen", "codealpaca")}


def test_exact_instructions_are_among_the_near_ones(near: pl.DataFrame):
    pair = {"codealpaca", "gpteacher_codegen"}
    crossing = near.filter(pl.col("source").is_in(pair) & pl.col("twin").is_in(pair) & (pl.col("source") != pl.col("twin")))
    assert 749 <= len(crossing) <= 760


def test_near_text_drops_no_distinct_chinese_record(real: Built, near: pl.DataFrame):
    chinese = rows(real.ingested["llamafactory_demo"], "samples").filter(pl.col("origin_file") == "alpaca_zh_demo.json")
    found = near.join(chinese, on="sample_id", how="semi")
    assert (found["verdict"] == "keep").sum() == 992
    assert found["reason"].drop_nulls().unique().to_list() == ["exact_duplicate"]


@pytest.mark.parametrize("name", ["gsm8k", "flan_cot", "codealpaca"])
def test_templated_problems_with_other_numbers_are_kept(real: Built, near: pl.DataFrame, name: str):
    """Option lists and worked solutions are the same for "If 17m - n = p" and "If 14m - n = p"."""
    samples = pl.concat([rows(artefact, "samples") for artefact in real.ingested.values()])
    said = {row["sample_id"]: " ".join(turn["value"] for turn in row["conversations"]) for row in samples.to_dicts()}
    dropped = near.filter(pl.col("source") == name, pl.col("reason") == "near_duplicate")
    assert len(dropped) > 20
    for sample, twin in dropped.select("sample_id", "twin_id").iter_rows():
        one, other = (re.findall(r"(?<!\w)[0-9]\w*", unicodedata.normalize("NFKC", said[which])) for which in (sample, twin))
        assert one == other


@pytest.mark.parametrize("name", ["puzzlevqa", "nlvr", "tabmwp", "opencqa", "im2latex_sample", "scienceqa_img"])
def test_one_question_on_many_pictures_is_kept(near: pl.DataFrame, name: str):
    assert near.filter(pl.col("source") == name)["verdict"].unique().to_list() == ["keep"]


@pytest.fixture(scope="module")
def alike(real: Built, catalog: Catalog) -> pl.DataFrame:
    return judged(real, catalog, near_images=True)


@pytest.mark.parametrize("name", ["im2latex_sample", "opencqa", "puzzlevqa", "tabmwp"])
def test_pages_and_charts_that_look_alike_stay_when_look_alikes_count(alike: pl.DataFrame, name: str):
    assert alike.filter(pl.col("source") == name)["verdict"].unique().to_list() == ["keep"]


def test_what_look_alikes_add_is_known_and_goes_with_a_kept_sample(near: pl.DataFrame, alike: pl.DataFrame):
    kept = alike.filter(pl.col("verdict") == "keep").select(twin_id="sample_id")
    assert alike.filter(pl.col("verdict") == "drop").join(kept, on="twin_id", how="anti").is_empty()
    added = alike.filter(pl.col("detail").str.starts_with("pictures look alike"))
    assert added["source"].to_list() == []
    unlike = alike.filter(~pl.col("sample_id").is_in(added["sample_id"].implode()))
    assert unlike.equals(near.join(unlike, on="sample_id", how="semi"))


def test_every_near_duplicate_goes_with_a_kept_sample(near: pl.DataFrame):
    kept = near.filter(pl.col("verdict") == "keep").select(twin_id="sample_id")
    dropped = near.filter(pl.col("verdict") == "drop")
    assert dropped.join(kept, on="twin_id", how="anti").is_empty()
    stated = dropped.filter(reason="near_duplicate")["detail"].str.extract(r"Jaccard ([0-9.]+)").cast(pl.Float64)
    assert len(stated) > 150
    assert stated.min() >= 0.7
