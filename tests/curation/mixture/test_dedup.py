from pathlib import Path

import pytest

from curation.errors import MixtureError
from curation.mixture.dedup import DedupSpec
from curation.mixture.file import load_mixture
from tests.support.upstream import write_world


def test_settings_that_change_no_signature_share_them():
    signing = DedupSpec().signing()
    assert DedupSpec(threshold=0.9, bands=8, rows=4, conflicts="prefer", sources=["a"], same_numbers=False).signing() == signing
    for change in ({"unit": "turn"}, {"key": "question"}, {"ngram": 5}, {"sign_ngram": 3}):
        assert DedupSpec.model_validate(change).signing() != signing


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("  treshold: 0.8", "did you mean 'threshold'"),
        ("  threshold: 1.5", "less than or equal to 1"),
        ("  mirrored_images: true", "mirrored_images asks for near_images"),
        ("  rows: 4\n  probes: 5", "more parts than rows"),
        ("  bands: 128\n  rows: 8\n  probes: 9", "more parts than rows"),
        ("  unit: turns", "'sample' or 'turn'"),
        ("  bands: 200\n  rows: 20", "at most 1024"),
        ("  sources: [sums, sums]", "names something twice"),
        ("  sources: [summs]", "did you mean 'sums'"),
        ("  prefer: [larger]", "'larger_image' or 'longer_answer'"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_valid(tmp_path: Path, lines: str, told: str):
    catalog = write_world(tmp_path / "upstream")
    path = tmp_path / "mixture.yaml"
    path.write_text(f"name: few\ndedup:\n{lines}\n")
    with pytest.raises(MixtureError, match=told) as problem:
        load_mixture(path, catalog)
    assert f"{path}:" in str(problem.value)


def test_a_mixture_without_the_key_drops_exact_duplicates_only(tmp_path: Path):
    path = tmp_path / "mixture.yaml"
    path.write_text("name: few\n")
    assert load_mixture(path, write_world(tmp_path / "upstream")).dedup is None
    path.write_text("name: few\ndedup: {}\n")
    assert load_mixture(path, write_world(tmp_path / "upstream")).dedup == DedupSpec()
