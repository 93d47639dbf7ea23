from pathlib import Path

import pytest

from curation.catalog import Catalog, Category
from curation.errors import MixtureError
from curation.mixture import Mixture, load_mixture
from tests.support.upstream import SOURCES


def load(world: Catalog, text: str) -> Mixture:
    path = world.folder / "mixture.yaml"
    path.write_text(text)
    return load_mixture(path, world)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("name: m\nsise: 3\n", 2, "unknown key 'sise' (did you mean 'size'?)"),
        ("size: 3\n", 1, "required key 'name' is missing"),
        ("name: m\nsize: 0\n", 2, "greater than or equal to 1"),
        ("name: m\nsize: 1e3\n", 2, "found text '1e3'"),
        ("name: m\ncap: true\n", 2, "found a truth value True"),
        ("name: Big Mix\n", 1, "must be lower-case letters"),
        ("name: a/../b\n", 1, "must be lower-case letters"),
        ("name: m\nseed: -1\n", 2, "greater than or equal to 0"),
        ("name: m\nratios: {ocr: 0.5, math: 0.4}\n", 1, "sum to 0.9, expected 1"),
        ("name: m\nratios: {ocr: .nan}\n", 1, "ocr is nan"),
        ("name: m\nratios: {ocr: .inf, math: -.inf}\n", 1, "ocr is inf"),
        ("name: m\nratios: {ocr: 2.0, math: -1.0}\n", 1, "math is -1.0"),
        ("name: m\nratios: {ocr: 0, math: 0.0}\n", 1, "all are 0"),
        ("name: m\nratios: {ocrr: 1}\n", 1, "unknown category 'ocrr' (did you mean 'ocr'?)"),
        ("name: m\nratios: {ocr: yes}\n", 2, "found a truth value"),
        ("name: m\nnormalise_ratios: true\n", 1, "no ratios to normalise"),
        ("name: m\nsources:\n  chart: {take: 3}\n", 3, "unknown source 'chart' (did you mean 'chats'?)"),
        ("name: m\ninclude:\n- chats\n- sum\n", 4, "unknown source 'sum' (did you mean 'sums'?)"),
        ("name: m\nsources: {chats: {takes: 3}}\n", 2, "unknown key 'takes' (did you mean 'take'?)"),
        ("name: m\ninclude: []\n", 1, "every source is excluded"),
        ("name: m\nshard_bytes: 1\n", 2, "greater than or equal to 4096"),
    ],
)
def test_a_mixture_that_is_wrong_is_refused(world: Catalog, text: str, line: int, expected: str):
    with pytest.raises(MixtureError) as caught:
        load(world, text)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{world.folder / 'mixture.yaml'}:{line}: ")
    assert expected in str(caught.value)


def test_nothing_but_a_name_takes_part_everywhere(world: Catalog):
    mixture = load(world, "name: m\n")
    assert all(mixture.takes_part(name) for name in SOURCES)
    assert (mixture.size, mixture.cap, mixture.shares(), mixture.max_repeat) == (None, None, None, 1)


def test_sources_are_included_and_excluded(world: Catalog):
    mixture = load(world, "name: m\ninclude: [chats, sums]\nsources: {sums: {exclude: true}}\n")
    assert [name for name in SOURCES if mixture.takes_part(name)] == ["chats"]


def test_ratios_may_be_made_to_sum_to_one(world: Catalog):
    mixture = load(world, "name: m\nnormalise_ratios: true\nratios: {ocr: 3, math: 1, code: 0}\n")
    assert mixture.shares() == {Category.OCR: 0.75, Category.MATH: 0.25}


def test_ratios_of_thirds_sum_to_one(world: Catalog):
    assert load(world, "name: m\nratios: {ocr: 0.3333333, math: 0.3333333, code: 0.3333333}\n").shares()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "mixtures").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_mixtures_are_well_formed(path: Path):
    from curation.yaml_file import YamlFile

    file = YamlFile(path, error=MixtureError)
    assert file.parse(Mixture, file.value).name == path.stem
