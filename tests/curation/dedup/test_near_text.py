import numpy as np
import pyarrow as pa
import pytest

from curation.dedup.keepers import NOBODY
from curation.dedup.near_text import NearTexts, near_texts
from curation.mixture.dedup import DedupSpec
from tests.curation.dedup.made_up import jaccard, planted_texts, slow_ngrams

SPEC = DedupSpec(same_numbers=False)


def deduplicated(texts: list[str], spec: DedupSpec = SPEC, num_threads: int = 1) -> NearTexts:
    return near_texts(pa.array(texts, pa.large_string()), spec, normalise=lambda batch: batch, num_threads=num_threads)


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], list[set]]:
    texts = planted_texts(700)
    return texts, [slow_ngrams(text, 3, 5) for text in texts]


def test_every_drop_is_true_and_its_keeper_stays(planted: tuple[list[str], list[set]]):
    texts, sets = planted
    found = deduplicated(texts)
    dropped = np.flatnonzero(found.keeper != NOBODY).tolist()
    assert len(dropped) > 50
    for text in dropped:
        keeper = int(found.keeper[text])
        assert found.keeper[keeper] == NOBODY
        assert keeper < text
        assert jaccard(sets[text], sets[keeper]) >= SPEC.threshold
        assert found.similarity[text] == pytest.approx(jaccard(sets[text], sets[keeper]), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "recall"), [({}, 0.97), ({"bands": 14, "rows": 8}, 0.8), ({"bands": 14, "rows": 8, "probes": 4}, 0.98)]
)
def test_true_pairs_are_found_as_often_as_the_bands_promise(
    planted: tuple[list[str], list[set]], settings: dict[str, int], recall: float
):
    """Held against all pairs: one of Jaccard similarity 0.7 or more is found when one of the two is dropped."""
    texts, sets = planted
    dropped = deduplicated(texts, DedupSpec(same_numbers=False, **settings)).keeper != NOBODY
    alike = [
        (one, other) for one in range(len(texts)) for other in range(one) if len(sets[one] & sets[other]) > 0
        and jaccard(sets[one], sets[other]) >= SPEC.threshold
    ]  # fmt: skip
    assert len(alike) > 100
    assert np.mean([dropped[one] or dropped[other] for one, other in alike]) >= recall


def test_threads_and_batches_change_nothing(planted: tuple[list[str], list[set]], monkeypatch: pytest.MonkeyPatch):
    whole = deduplicated(planted[0])
    monkeypatch.setattr("curation.dedup.near_text._TEXTS_AT_ONCE", 37)
    monkeypatch.setattr("curation.dedup.near_text._PAIRS_AT_ONCE", 11)
    parts = deduplicated(planted[0], num_threads=2)
    assert parts.keeper.tolist() == whole.keeper.tolist()
    assert parts.similarity.tolist() == whole.similarity.tolist()


def test_what_is_kept_is_kept_again(planted: tuple[list[str], list[set]]):
    kept = [text for text, keeper in zip(planted[0], deduplicated(planted[0]).keeper, strict=True) if keeper == NOBODY]
    assert (deduplicated(kept).keeper == NOBODY).all()


def test_repeated_words_do_not_explode():
    texts = [f"{word} " * number for number in range(3, 700) for word in ("spam", "ham", "eggs")]
    found = deduplicated(texts, SPEC.model_copy(update={"bucket_cap": 8}))
    assert (found.keeper == NOBODY).sum() == 3
    assert found.num_pairs <= 8 * len(texts)
    assert found.capped.buckets > 0
    assert found.capped.largest == 697


def test_numbers_must_agree_unless_told_otherwise():
    text = "the train leaves the station at {} and comes back late in the evening when all the lamps are lit in the long street"
    texts = [text.format(5), text.format(6), text.format(5)]
    assert deduplicated(texts, DedupSpec()).keeper.tolist() == [NOBODY, NOBODY, 0]
    assert deduplicated(texts, DedupSpec(same_numbers=False)).keeper.tolist() == [NOBODY, 0, 0]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["!", "!", "?"]])
def test_texts_with_nothing_to_compare_are_kept(texts: list[str]):
    assert (deduplicated(texts).keeper == NOBODY).all()


def test_short_texts_are_near_only_when_equal():
    assert deduplicated(["yes", "no", "yes", "yes sir"]).keeper.tolist() == [NOBODY, NOBODY, 0, NOBODY]
