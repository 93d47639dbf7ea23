from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.spec import Catalog, Category
from curation.mixing.balance import Quota
from curation.mixture.spec import Mixture
from curation.planning.counts import ingested_counts
from curation.planning.difference import Planned, _by_rank, plan_difference
from curation.storage.store import Store
from tests.support.planning import planned, stating
from tests.support.upstream import build

FILES = {"cap_unit": "annotation_file"}
PAIRS = {
    "caps": ({"cap": 5}, {"cap": 12}),
    "seeds": ({"cap": 9}, {"cap": 9, "seed": 1}),
    "files": ({"cap": 4, "cap_unit": "annotation_file"}, {"cap": 9, "cap_unit": "annotation_file"}),
    "conditions": ({"where": {"num_tokens": {"max": 9}}}, {"where": {"num_tokens": {"min": 5}}, "cap": 14}),
    "repeats": ({"size": 90, "max_repeat": 3}, {"size": 50, "alpha": 0.5, "max_repeat": 3}),
    "sources": ({"include": ["sums", "shapes"]}, {"include": ["copied-sums", "sums"], "cap": 25}),
    "quota of files": (FILES | {"cap": 4, "size": 12}, FILES | {"cap": 9, "size": 12}),
    "nothing": ({"cap": 5}, {"cap": 5}),
}  # fmt: skip


def test_a_difference_names_what_enters_and_leaves(world: Catalog):
    catalog = stating(world, shapes=30, chats=35, sums=10)
    before = planned(Mixture(name="a", cap=20, include=["shapes", "chats"]), catalog)
    after = planned(Mixture(name="b", cap=25, include=["chats", "sums"]), catalog)
    found = plan_difference(before, after, catalog)
    assert found["total"] == {"before": 40, "after": 35}
    assert found["changed"] == {"entering": 15, "leaving": 20}
    assert found["sources"] == {
        "chats": {"before": 20, "after": 25, "entering": 5, "leaving": 0},
        "shapes": {"before": 20, "after": 0, "entering": 0, "leaving": 20},
        "sums": {"before": 0, "after": 10, "entering": 10, "leaving": 0},
    }
    assert found["categories"]["math"] == {"before": 0, "after": 10, "entering": 10, "leaving": 0}
    assert found["exact"]


def test_published_counts_do_not_tell_which_samples_differ(world: Catalog):
    catalog = stating(world, shapes=30)
    before, after = (planned(Mixture(name="a", cap=20, seed=seed), catalog) for seed in (0, 1))
    assert not plan_difference(before, after, catalog)["exact"]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_a_difference_is_that_of_the_releases(world: Catalog, store: Store, pair: tuple[dict, dict]):
    plans: list[Planned] = []
    held: list[Counter[tuple[str, int]]] = []
    for settings in pair:
        mixture = Mixture.model_validate({"name": "m", **settings})
        index = pl.read_parquet(build(world, store, mixture).folder / "index.parquet")
        counts = ingested_counts(store, world, mixture)
        plans.append(planned(mixture, world, counts))
        held.append(Counter(index.select("source", "sample_id").rows()))
    found = plan_difference(*plans, world)
    assert found["exact"]
    for name, change in found["sources"].items():
        before, after = (Counter({key: number for key, number in side.items() if key[0] == name}) for side in held)
        assert change == {
            "before": before.total(),
            "after": after.total(),
            "entering": (after - before).total(),
            "leaving": (before - after).total(),
        }


@st.composite
def quotas(draw: st.DrawFn) -> Quota | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    offered, samples = draw(st.integers(0, 12)), draw(st.integers(0, 40))
    samples = samples if offered else 0
    picked = min(offered, samples)
    return Quota(source="a", category=Category.OCR, available=12, offered=offered, picked=picked, samples=samples)


@given(before=quotas(), after=quotas())
def test_ranks_give_the_difference_sample_by_sample(before: Quota | None, after: Quota | None):
    def times(quota: Quota | None) -> list[int]:
        if quota is None or not quota.picked:
            return [0] * 12
        return [len(range(rank, quota.samples, quota.picked)) if rank < quota.picked else 0 for rank in range(12)]

    changes = [new - old for old, new in zip(times(before), times(after), strict=True)]
    expected = sum(max(0, change) for change in changes), sum(max(0, -change) for change in changes)
    assert _by_rank(before, after) == expected
