import polars as pl

from curation.decontamination.contacts import CONTACTS, HITS, PICTURE_HITS
from curation.decontamination.leakage import decontaminated, leakage
from curation.mixture.decontamination import DecontaminationSpec

VERDICTS = pl.DataFrame(
    {
        "sample_id": ["a1", "a2", "a3", "b1"],
        "source": ["a", "a", "a", "b"],
        "stage": ["dedup"] * 4,
        "verdict": ["keep", "keep", "drop", "keep"],
        "reason": [None, None, "exact_duplicate", None],
        "twin_id": [None, None, "a1", None],
        "detail": pl.Series([None] * 4, dtype=pl.String),
    }
)
MET = pl.DataFrame(
    [
        ("a1", "exam", "image", "e1", None),
        ("a2", "exam", "question", "e1", None),
        ("a3", "exam", "image", "e1", None),
        ("b1", "exam", "text_cover", "e2", 0.9),
    ],
    schema=CONTACTS,
    orient="row",
)


def dropped(spec: DecontaminationSpec) -> dict[str, tuple[str, str]]:
    rows = decontaminated(VERDICTS, MET, spec).filter(pl.col("stage") == "decontaminate")
    assert rows["reason"].unique().to_list() in ([], ["contaminated"])
    return {row["sample_id"]: (row["twin_id"], row["detail"]) for row in rows.to_dicts()}


def test_the_default_rule_drops_pictures_and_covered_text():
    assert dropped(DecontaminationSpec()) == {"a1": ("e1", "exam: same image"), "b1": ("e2", "exam: 90% of its n-grams")}


def test_a_benchmark_may_have_a_rule_of_its_own():
    assert list(dropped(DecontaminationSpec(rules={"exam": ["question"]}))) == ["a2"]
    assert dropped(DecontaminationSpec(rules={"exam": []})) == {}


def test_what_was_dropped_before_keeps_its_reason():
    rows = decontaminated(VERDICTS, MET, DecontaminationSpec())
    assert rows.filter(pl.col("sample_id") == "a3")["reason"].to_list() == ["exact_duplicate"]
    assert rows["sample_id"].to_list() == VERDICTS["sample_id"].to_list()


def test_the_table_counts_items_once_over_all_sources():
    verdicts = decontaminated(VERDICTS, MET, DecontaminationSpec())
    sizes = pl.DataFrame({"benchmark": ["exam", "quiz"], "items": [4, 2], "images": [2, 0]})
    met = MET.with_columns(source=pl.Series(["a", "a", "a", "b"]))
    hits = pl.DataFrame(
        [("exam", "e1", "image", "a"), ("exam", "e1", "image", "b")], schema={**HITS, "source": pl.String}, orient="row"
    )
    shown = pl.DataFrame([("exam", "p1", "a"), ("exam", "p1", "b")], schema={**PICTURE_HITS, "source": pl.String}, orient="row")
    rows = {(row["benchmark"], row["source"]): row for row in leakage(sizes, met, hits, shown, verdicts).to_dicts()}
    assert set(rows) == {("exam", "*"), ("exam", "a"), ("exam", "b"), ("quiz", "*")}
    whole = rows["exam", "*"]
    assert (whole["image_hits"], whole["image_percent"], whole["image_items"]) == (1, 50.0, 1)
    assert (whole["samples"], whole["dropped"]) == (4, 2)
    assert (rows["exam", "a"]["dropped"], rows["exam", "b"]["dropped"]) == (1, 1)
    assert rows["quiz", "*"]["image_percent"] == 0
