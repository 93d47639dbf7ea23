from hypothesis import given
from hypothesis import strategies as st

from curation.errors import RejectReason
from curation.sources.columns import Said
from curation.sources.records import Reject
from curation.sources.sample_rows import Origins, rejected_table, sample_table
from curation.tables import IMAGE, REJECTED, SAMPLES

TURNS = st.lists(
    st.lists(st.text("a é中 \n\t", max_size=6), min_size=2, max_size=4).filter(lambda said: len(said) % 2 == 0), max_size=5
)


@given(samples=TURNS)
def test_rows_say_what_was_said(samples: list):
    origins = Origins(["a.json"] * len(samples), list(range(len(samples))), [None] * len(samples))
    table = sample_table("shapes", Said.of(samples), None, origins)
    assert table.schema == SAMPLES
    for row, said in zip(table.to_pylist(), samples, strict=True):
        assert [turn["value"] for turn in row["conversations"]] == said
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(said) // 2)
        assert row["num_turns"] == len(said)
        assert row["num_tokens"] == sum(len(text.split()) for text in said)
        assert row["num_text_bytes"] == sum(len(text.encode()) for text in said)
        assert (row["images"], row["num_images"]) == ([], 0)


LONG = st.builds(lambda text, times: text * times, st.text("ab \né", max_size=8), st.integers(0, 60))


@given(samples=st.lists(st.tuples(LONG, LONG).map(list), max_size=8))
def test_words_are_counted_in_texts_of_any_length(samples: list):
    table = sample_table(
        "s", Said.of(samples), None, Origins(["f"] * len(samples), list(range(len(samples))), [None] * len(samples))
    )
    assert table.column("num_tokens").to_pylist() == [sum(len(text.split()) for text in said) for said in samples]


@given(batches=st.lists(TURNS, min_size=1, max_size=4))
def test_batches_together_say_what_each_said(batches: list):
    together = Said.together([Said.of(turns) for turns in batches])
    whole = Said.of([said for turns in batches for said in turns])
    assert together.texts.equals(whole.texts)
    assert together.counts.tolist() == whole.counts.tolist()


def test_pictures_are_listed_in_order():
    image = {field.name: 1 if field.name not in ("sha256", "pixels", "extension") else "x" for field in IMAGE}
    said, origins = Said.of([["a", "b"], ["c", "d"]]), Origins(["f", "f"], [0, 1], ["i", None])
    table = sample_table("shapes", said, [[image, image | {"width": 2}], []], origins)
    assert [row["width"] for row in table.column("images")[0].as_py()] == [1, 2]
    assert table.column("num_images").to_pylist() == [2, 0]
    assert table.column("origin_id").to_pylist() == ["i", None]


def test_rejects_have_a_name_to_be_found_by():
    table = rejected_table("shapes", [Reject.of("a.json", 3, RejectReason.BAD_JSON, "why", b"x" * 100_000)])
    assert table.schema == REJECTED
    [row] = table.to_pylist()
    assert (row["record_id"], row["reason"], len(row["raw"])) == ("shapes:a.json:3", "bad_json", 64 << 10)
    assert rejected_table("shapes", []).schema == REJECTED
