"""The report page in a real browser, on a laptop and a phone, in light and dark, by mouse and keyboard."""

from pathlib import Path

import pytest

from curation.report import PAGE_NAME, write_report
from tests.curation.report.made_up import write_made_up
from tests.support.browser import LAPTOP, PHONE, Page

pytestmark = pytest.mark.slow
CARDS = "Array.from(document.querySelectorAll('#sample-list > li')).filter(card => card.offsetParent)"
SHOWN = f"{CARDS}.length"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = write_made_up(tmp_path_factory.mktemp("report"), ratios={"general": 3, "language": 1})
    write_report(made.folder, made.manifest, made.source_folders)
    return Path(made.folder / PAGE_NAME).as_uri()


@pytest.mark.parametrize("size", [LAPTOP, PHONE])
@pytest.mark.parametrize("is_dark", [False, True])
def test_it_is_drawn_without_errors_and_fits(browser_page: Page, url: str, size: tuple[int, int], is_dark: bool):
    browser_page.open(url, size, is_dark=is_dark)
    assert browser_page.problems == []
    assert not browser_page.is_wider_than_its_window()
    red, green, blue = browser_page.run(f"{BACKGROUND}.match(/\\d+/g).map(Number)")
    assert (max(red, green, blue) < 60) == is_dark
    widths = browser_page.run(
        "Array.from(document.querySelectorAll('.track .fill')).map(bar => bar.getBoundingClientRect().width)"
    )
    assert len(widths) > 10 and min(widths) > 0
    pictures = browser_page.run("Array.from(document.images).map(image => image.loading = 'eager').length")
    browser_page.wait_for("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    assert pictures > 5


def test_filters_show_what_they_say(browser_page: Page, url: str):
    browser_page.open(url)
    everything = browser_page.run(SHOWN)
    browser_page.choose("select[name=source]", "shapes")
    of_shapes = browser_page.run(SHOWN)
    assert 0 < of_shapes < everything
    assert browser_page.run("document.getElementById('num-shown').textContent") == f"{of_shapes} of {everything} shown"
    browser_page.choose("select[name=verdict]", "missing_image")
    texts = browser_page.run(f"{CARDS}.map(card => card.innerText)")
    assert texts and all("rejected: missing_image" in text for text in texts)
    browser_page.choose("select[name=category]", "language")
    assert browser_page.run(SHOWN) == 0
    assert "None of the samples" in browser_page.run("document.getElementById('num-shown').textContent")
    browser_page.run("document.querySelector('#filters button').click()")
    browser_page.wait_for(f"{SHOWN} === {everything}")
    assert browser_page.problems == []


def test_hostile_text_runs_nothing(browser_page: Page, url: str):
    browser_page.open(url)
    assert browser_page.run("document.querySelectorAll('script').length") == 1
    assert "<script>alert" in browser_page.run("document.getElementById('sample-list').textContent")
    assert browser_page.problems == []


def test_the_keyboard_reaches_content_sections_and_filters(browser_page: Page, url: str):
    browser_page.open(url)
    reached: list[str] = []
    for _ in range(60):
        browser_page.press("Tab")
        reached.append(browser_page.run("document.activeElement.getAttribute('href') || document.activeElement.name || ''"))
    assert reached[0] == "#content"
    assert {"#mixture", "#samples", "source", "category", "verdict"} <= set(reached)
    assert browser_page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    unnamed = browser_page.run(
        "Array.from(document.querySelectorAll('select, button, a, [role=region]')).filter("
        "part => !(part.textContent.trim() || part.getAttribute('aria-label') || part.labels?.length)).length"
    )
    assert unnamed == 0
