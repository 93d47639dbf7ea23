from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.dedup.shingles import whole_texts
from curation.near.shingle_files import read_shingles, write_shingles


def test_sets_come_back_as_they_were_written(tmp_path: Path):
    for texts in ([], [""], ["a b c d", "", "e f g"]):
        sets = whole_texts(pa.array(texts, pa.large_string()), ngram=3, sign_ngram=5)
        write_shingles(tmp_path / "sets.arrow", sets)
        found = read_shingles(tmp_path / "sets.arrow")
        assert len(found) == len(texts)
        for name in ("edges", "values", "set_keys"):
            assert np.array_equal(getattr(found, name), getattr(sets, name))


def test_equal_sets_give_equal_bytes(tmp_path: Path):
    sets = whole_texts(pa.array(["a b c d", "e f g"], pa.large_string()), ngram=3, sign_ngram=5)
    for name in ("one", "other"):
        write_shingles(tmp_path / name, sets)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
