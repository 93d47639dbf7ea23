import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.sources.mending import find_moved


def found(missing: list[str], names: list[str], named: set[str] | None = None) -> dict[str, str | None]:
    where = find_moved(missing, (named or set()) | set(missing), names)
    return {ref: place.found for ref, place in where.items()}


@pytest.mark.parametrize(
    ("missing", "names", "expected"),
    [
        (["a/B.PNG"], ["a/b.png"], ["a/b.png"]),
        (["a/b.png"], ["A/b.png", "a/B.png"], [None]),  # two that differ in case alone
        (["a/b.png"], ["c/b.png"], ["c/b.png"]),
        (["a/b.png"], ["c/b.png", "d/b.png"], [None]),
        (["x/a/b.png"], ["c/a/b.png", "d/b.png"], ["c/a/b.png"]),
        (["x/a/b.png"], ["c/a/b.png", "d/a/b.png"], [None]),
        (["a/b.png", "c/b.png"], ["d/b.png"], [None, None]),  # either could mean it
        (["a/b.png", "A/B.png"], ["d/b.png"], ["d/b.png", "d/b.png"]),
        (["a/b.png"], ["a/b.jpg"], [None]),
        (["a/b.png"], [], [None]),
    ],
)
def test_lost_pictures_are_found_where_there_is_no_doubt(missing: list[str], names: list[str], expected: list[str | None]):
    assert list(found(missing, names).values()) == expected


def test_a_picture_that_a_record_names_is_no_lost_one():
    assert found(["a/1.png"], ["b/1.png"], {"b/1.png"}) == {"a/1.png": None}


def test_the_nearest_are_named():
    where = find_moved(["x/a/b.png", "c.png"], set(), ["1/b.png", "2/a/b.png", "3/a/b.png", "4/b.png", "c.jpg", "d.png"])
    assert where["x/a/b.png"].nearest == ("2/a/b.png", "3/a/b.png", "1/b.png")
    assert where["c.png"].hint() == "; nearest are 'c.jpg'"


PATHS = st.lists(st.sampled_from("abAB"), min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, unique=True, max_size=6), st.lists(PATHS, unique=True, max_size=8), st.randoms())
def test_order_plays_no_part_and_nobody_shares_a_moved_picture(missing: list[str], names: list[str], random: object):
    missing = [ref for ref in missing if ref not in names]
    once = found(missing, names)
    random.shuffle(missing)  # type: ignore[attr-defined]
    random.shuffle(names)  # type: ignore[attr-defined]
    assert found(missing, names) == once
    takers: dict[str, set[str]] = {}
    for ref, name in once.items():
        if name is not None and name.casefold() != ref.casefold():
            takers.setdefault(name, set()).add(ref.casefold())
    assert all(len(refs) == 1 for refs in takers.values())
