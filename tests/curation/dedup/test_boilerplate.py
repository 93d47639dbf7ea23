import numpy as np
import pyarrow as pa

from curation.dedup.boilerplate import MIN_ITEMS, boilerplate, frequent_values
from curation.dedup.shingles import ShingleSets, whole_texts


def sets(*texts: str) -> ShingleSets:
    return whole_texts(pa.array(texts, pa.large_string()), ngram=3, sign_ngram=5)


def test_ngrams_that_a_large_part_shares_are_boilerplate():
    texts = [f"w{number}a w{number}b w{number}c answer in one word" for number in range(100)]
    values, counts = frequent_values([sets(*texts[:30]), sets(*texts[30:])])
    shared = sets("answer in one word")
    assert values.tolist() == shared.values.tolist()
    assert counts.tolist() == [100, 100]
    sampled = np.full(len(values), 100)
    assert boilerplate(values, counts, sampled, 0.5).values.tolist() == shared.values.tolist()
    assert len(boilerplate(values, counts, sampled * 10, 0.5).values) == 0
    assert len(boilerplate(values, counts, sampled, 0).values) == 0


def test_a_few_texts_share_nothing_but_themselves():
    values, _ = frequent_values([sets(*["the very same text"] * (MIN_ITEMS - 1))])
    assert len(values) == 0
    assert len(frequent_values([])[0]) == 0
