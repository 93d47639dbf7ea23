import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from curation.report.gather import gather
from curation.report.page import funnel, render_page
from tests.curation.report.made_up import write_made_up

_LOADING = {"src", "href", "srcset", "data", "action", "poster", "background"}
_VOID = {"meta", "img", "br", "link", "input"}


class _Page(HTMLParser):
    """Elements in order, with unclosed ones, texts, and the ids that links may point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.left_open = self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(made_up) -> str:
    return render_page(gather(made_up.folder, made_up.manifest, made_up.source_folders))


def test_markup_is_balanced_and_links_lead_somewhere(page):
    parsed = _Page(page)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    links = [attributes["href"] for tag, attributes in parsed.elements if tag == "a"]

    assert not parsed.left_open
    assert len(ids) == len(set(ids))
    assert links and all(link.removeprefix("#") in ids for link in links)


def test_nothing_is_loaded_from_anywhere(page):
    loaded = [value for _, attributes in _Page(page).elements for name, value in attributes.items() if name in _LOADING]

    assert loaded and all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loaded)
    assert not re.search(r"url\(|@import", page.split("</style>")[0])


def test_text_from_data_is_never_markup(page):
    parsed = _Page(page)

    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "<b>a.png" not in page and "&lt;b&gt;a.png" in page
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]


def test_policy_names_the_one_script(page):
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_every_picture_has_a_text_and_a_size(page):
    pictures = [attributes for tag, attributes in _Page(page).elements if tag == "img"]

    assert pictures and all(one["alt"] and int(one["width"]) and int(one["height"]) for one in pictures)


def test_headings_descend_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in _Page(page).elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_each_card_can_be_filtered_by_what_the_form_offers(page):
    elements = _Page(page).elements
    cards = [attributes for tag, attributes in elements if tag == "li" and "data-source" in attributes]

    assert {(card["data-source"], card["data-category"]) for card in cards} == {
        ("shapes", "general"),
        ("words", "language"),
        ("gone", "ocr"),
    }
    assert {card["data-verdict"] for card in cards} == {"keep", "exact_duplicate", "missing_image", "empty_answer", "bad_json"}
    offered = {text for card in cards for text in (card["data-source"], card["data-category"])}
    assert all(f"<option>{text}</option>" in page for text in offered)
    assert all(f'<option value="{card["data-verdict"]}">' in page for card in cards)


def test_funnel_loses_what_it_says(made_up):
    stages = funnel(gather(made_up.folder, made_up.manifest, made_up.source_folders).release)

    assert [stage.num for stage in stages] == [15, 8, 7, 6]
    assert stages[3].note == "7 with repeats"
    for before, after in pairwise(stages):
        assert before.num - after.num == sum(after.lost.values())


def test_targets_are_drawn_where_the_mixture_has_ratios(tmp_path, page):
    asked = write_made_up(tmp_path / "asked", ratios={"general": 3, "language": 1})
    with_targets = render_page(gather(asked.folder, asked.manifest, asked.source_folders))

    assert 'class="target"' not in page
    assert with_targets.count('class="target"') == 2
    assert "of 75.0 %" in with_targets and "of 25.0 %" in with_targets


def test_an_unknown_licence_is_warned_of(page):
    assert "no licence is stated for words" in page
