import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.exact import exact_duplicates, verdicts
from curation.tables import SIGNATURES, VERDICTS

ROWS = st.lists(
    st.tuples(
        st.sampled_from([b"t" * 16, b"u" * 16]), st.sampled_from([bytes(16), b"i" * 16]), st.sampled_from([None, "no_words"])
    ),
    max_size=12,
)


def signatures(rows: list[tuple]) -> pl.DataFrame:
    records = [
        {"sample_id": f"s-{number:03d}", "source": "s", "text_key": text, "image_key": image, "reason": reason}
        for number, (text, image, reason) in enumerate(rows)
    ]
    return pl.DataFrame(pa.Table.from_pylist(records, schema=SIGNATURES))


def brute_force(rows: list[tuple]) -> dict[str, tuple]:
    """(verdict, reason, twin) by sample, looking at every earlier sample."""
    found = {}
    for number, (text, image, reason) in enumerate(rows):
        twins = [place for place in range(number) if rows[place] == (text, image, None)]
        if reason is not None:
            found[f"s-{number:03d}"] = ("drop", reason, None)
        elif twins:
            found[f"s-{number:03d}"] = ("drop", "exact_duplicate", f"s-{twins[0]:03d}")
        else:
            found[f"s-{number:03d}"] = ("keep", None, None)
    return found


@given(rows=ROWS, order=st.randoms())
def test_verdicts_are_those_of_brute_force_in_any_order(rows: list, order):
    table = signatures(rows)
    turned = list(range(len(table)))
    order.shuffle(turned)
    found = verdicts(table[turned].lazy())
    assert found.columns == VERDICTS.names
    assert found["sample_id"].is_sorted()
    assert {row[0]: row[1:] for row in found.select("sample_id", "verdict", "reason", "twin_id").iter_rows()} == brute_force(
        rows
    )
    assert found.filter(pl.col("reason") == "no_words")["stage"].unique().to_list() in ([], ["clean"])


def test_the_keeper_is_the_smallest_id():
    table = signatures([(b"t" * 16, bytes(16), None)] * 3).with_columns(sample_id=pl.Series(["c", "a", "b"]))
    twins = exact_duplicates(table.lazy()).collect()
    assert sorted(twins.iter_rows()) == [("b", "a"), ("c", "a")]


def test_text_or_pixels_alone_are_no_duplicate():
    table = signatures([(b"t" * 16, bytes(16), None), (b"t" * 16, b"i" * 16, None), (b"u" * 16, bytes(16), None)])
    assert exact_duplicates(table.lazy()).collect().is_empty()
