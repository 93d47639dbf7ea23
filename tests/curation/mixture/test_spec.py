import pytest

from curation.catalog.spec import Catalog, Category
from curation.errors import MixtureError
from curation.mixture.file import load_mixture
from curation.mixture.spec import Mixture, participants
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
        ("name: m\nratios: {ocr: 0.5, math: 0.4}\n", 2, "sum to 0.9, expected 1"),
        ("name: m\nratios: {ocr: .nan}\n", 2, "ocr is nan"),
        ("name: m\nratios: {ocr: .inf, math: -.inf}\n", 2, "ocr is inf"),
        ("name: m\nratios: {ocr: 2.0, math: -1.0}\n", 2, "math is -1.0"),
        ("name: m\nratios: {ocr: 0, math: 0.0}\n", 2, "all are 0"),
        ("name: m\nratios: {ocrr: 1}\n", 2, "unknown category 'ocrr' (did you mean 'ocr'?)"),
        ("name: m\nratios: {ocr: yes}\n", 2, "found a truth value"),
        ("name: m\nnormalise_ratios: true\n", 1, "no ratios to normalise"),
        ("name: m\nsources:\n  chart: {take: 3}\n", 3, "unknown source 'chart' (did you mean 'chats'?)"),
        ("name: m\ninclude:\n- chats\n- sum\n", 4, "unknown source 'sum' (did you mean 'sums'?)"),
        ("name: m\nsources: {chats: {takes: 3}}\n", 2, "unknown key 'takes' (did you mean 'take'?)"),
        ("name: m\ninclude: []\n", 2, "every source is excluded"),
        ("name: m\nshard_bytes: 1\n", 2, "greater than or equal to 4096"),
        ("name: m\nratios:\n  code: 0.5\n  math: 0.5\n", 3, "ratios.code: has a share, but no source of it takes part"),
        ("name: m\nalpha: -1\n", 2, "greater than or equal to 0"),
        ("name: m\nalpha: .nan\n", 2, "alpha: found a number nan"),
        ("name: m\ncap_unit: file\n", 2, "'source' or 'annotation_file'"),
        ("name: m\nprompt_placement: behind\n", 2, "'after' or 'before'"),
        ("name: m\nsources:\n  sums: {weight: 0}\n", 3, "greater than 0"),
        ("name: m\nsources:\n  sums: {weight: .inf}\n", 3, "sources.sums.weight: found a number inf"),
        ("name: m\nsources:\n  sums: {take: 3, cap: 4}\n", 3, "give one of them"),
        ("name: m\ncategories:\n  maths: {cap: 3}\n", 2, "unknown category 'maths' (did you mean 'math'?)"),
        ("name: m\ncategories:\n  math: {cap: 0}\n", 3, "greater than or equal to 1"),
        ("name: m\ncategories: {math: {wieght: 3}}\n", 2, "unknown key 'wieght' (did you mean 'weight'?)"),
        ("name: m\nratios: {math: 1}\ncategories: {math: {weight: 3}}\n", 1, "keep one of the two"),
        ("name: m\nwhere: {num_token: 3}\n", 2, "unknown key 'num_token' (did you mean 'num_tokens'?)"),
        ("name: m\nwhere:\n  num_tokens: {mx: 3}\n", 3, "unknown key 'mx' (did you mean 'max'?)"),
        ("name: m\nwhere:\n  num_tokens: few\n", 3, "where.num_tokens: found 'few'; expected a number"),
        ("name: m\nwhere:\n  num_tokens: {min: 4, max: 3}\n", 3, "min 4 is above max 3"),
        ("name: m\nwhere:\n  num_tokens: -1\n", 3, "-1 is no finite number of at least 0"),
        ("name: m\nwhere:\n  num_tokens: .nan\n", 3, "nan is no finite number"),
        ("name: m\nwhere:\n  num_tokens: {}\n", 3, "says nothing"),
        ("name: m\nwhere:\n  num_tokens: []\n", 3, "at least 1 item"),
        ("name: m\nwhere:\n  width: [3, 4]\n", 2, "not a list"),
        ("name: m\nguard: {max_drop_share: 30}\n", 2, "less than or equal to 1"),
        ("name: m\nguard: 0.3\n", 2, "valid dictionary"),
        ("name: m\ninclude:\n  tags: [tiny]\n", 3, "unknown tag 'tiny'; the catalog has none"),
        (
            "name: m\ninclude:\n  licenses: [CC0]\n",
            3,
            "unknown licence 'CC0' (did you mean 'CC0-1.0'?); the catalog has CC0-1.0, unknown",
        ),
        ("name: m\ninclude:\n  categories: [maths]\n", 3, "unknown category 'maths' (did you mean 'math'?)"),
        ("name: m\nexclude:\n  categories: [math, general, language]\n", 2, "every source is excluded"),
        ("name: m\nexclude:\n  source: [sums]\n", 3, "unknown key 'source' (did you mean 'sources'?)"),
        ("name: m\nstages: []\n", 2, "expected a list of mixtures"),
        ("name: m\nstages:\n- size: 3\n", 3, "expected the stage's `name`"),
        ("name: m\nstages:\n- name: a\n- name: a\n", 4, "two stages are called 'a'"),
        ("name: m\nstages:\n- name: a\n  stages: []\n", 4, "has no stages of its own"),
        ("name: m\nstages:\n- name: a\n  sise: 3\n", 4, "unknown key 'sise' (did you mean 'size'?)"),
        ("name: m\nextends: 3\n", 2, "expected the path of another YAML file"),
        ("name: m\nextends: other.yaml\n", 2, "no file 'other.yaml' there; there are catalog.yaml, mixture.yaml"),
        ("name: m\nextends: mixture.yaml\n", 2, "in a circle: mixture.yaml -> mixture.yaml"),
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
    assert list(participants(mixture, world.sources)) == list(SOURCES)
    assert (mixture.size, mixture.cap, mixture.shares(), mixture.max_repeat) == (None, None, None, 1)


def test_sources_are_included_and_excluded(world: Catalog):
    mixture = load(world, "name: m\ninclude: [chats, sums]\nsources: {sums: {exclude: true}}\n")
    assert list(participants(mixture, world.sources)) == ["chats"]


def test_ratios_may_be_made_to_sum_to_one(world: Catalog):
    mixture = load(world, "name: m\nnormalise_ratios: true\nratios: {general: 3, math: 1, code: 0}\n")
    assert mixture.shares() == {Category.GENERAL: 0.75, Category.MATH: 0.25}


def test_ratios_of_thirds_sum_to_one(world: Catalog):
    assert load(world, "name: m\nratios: {general: 0.3333333, math: 0.3333333, language: 0.3333333}\n").shares()


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("{categories: [math]}", ["sums", "copied-sums"]),
        ("{categories: [math], licenses: [CC0-1.0]}", ["sums"]),
        ("{licenses: ['CC*', unknown]}", ["shapes", "chats", "sums", "copied-sums"]),
        ("{sources: [chats, sums], categories: [math]}", ["sums"]),
    ],
)
def test_sources_are_selected_by_what_the_catalog_says_of_them(world: Catalog, include: str, expected: list[str]):
    assert list(participants(load(world, f"name: m\ninclude: {include}\n"), world.sources)) == expected


def test_any_criterion_excludes(world: Catalog):
    mixture = load(world, "name: m\nexclude: {licenses: [unknown], categories: [general]}\n")
    assert list(participants(mixture, world.sources)) == ["chats", "sums"]


def test_conditions_read_in_short_and_in_full(world: Catalog):
    where = load(world, "name: m\nwhere: {num_images: 1, num_turns: [2, 4], num_tokens: {min: 3, max: 9}}\n").where
    assert where is not None
    assert {name: str(condition) for name, condition in where.conditions().items()} == {
        "num_tokens": "at least 3 and at most 9", "num_images": "one of 1", "num_turns": "one of 2, 4",
    }  # fmt: skip


def test_a_mixture_survives_being_dumped_and_read_again(world: Catalog):
    mixture = load(world, "name: m\nwhere: {num_images: 1}\ninclude: [sums]\nsources: {sums: {where: {width: {min: 9}}}}\n")
    assert Mixture.model_validate(mixture.model_dump(mode="json")) == mixture
