import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curation.catalog.spec import Category
from curation.errors import ConfigurationError
from curation.planning.page import plan_page, write_plan_page
from tests.support.browser import LAPTOP, PHONE, Page

NAMES = [f"{category}-{number}" for category in Category for number in range(3)]


def document(name: str = "seven") -> dict[str, Any]:
    nothing = {"num_tokens": None, "num_images": None, "num_bytes": None}
    sources = {
        name: {
            "category": name.rpartition("-")[0], "available": 9_000 * (place + 1), "samples": 5_000 * (place + 1), "repeat": 1,
        }
        for place, name in enumerate(NAMES)
    }  # fmt: skip
    categories = {
        category.value: {
            key: sum(entry[key] for entry in sources.values() if entry["category"] == category)
            for key in ("available", "samples")
        }
        for category in Category
    }
    total = sum(entry["samples"] for entry in sources.values())
    return {
        "mixture": name, "total": total, "categories": categories, "sources": sources, "warnings": ["<i>mind</i>"],
        "resolved": {"name": name, "cap": 77_000},
        "details": {
            "total": nothing, "categories": dict.fromkeys(categories, nothing),
            "sources": {name: {"epochs": 0.56, "license": "</script><b>", **nothing} for name in sources},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return plan_page([document()])


def test_a_page_asks_for_nothing(page: str):
    """No attribute or style names a place elsewhere, and the page's own policy lets nothing be fetched."""
    assert "default-src 'none'" in page
    page = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(?:link|img|iframe|script|object|embed)[^>]*\b(?:src|href|data)\s*=", page)
    assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", page)


def test_what_data_says_stays_text(page: str):
    assert "&lt;i&gt;mind&lt;/i&gt;" in page
    assert "<i>mind</i>" not in page
    assert page.count("</script>") == 2


def test_each_plan_has_its_charts():
    page = plan_page([document("one"), document("two")])
    assert re.findall(r'id="chart-(\d+)"', page) == list("012345")
    assert page.count("<h1>") == 2


def test_running_sums_reach_what_each_cap_leaves(page: str):
    charts = json.loads(re.search(r"const charts = (.*);\n", page)[1])
    rows = charts[2]["data"]["values"]
    available = [entry["available"] for entry in document()["sources"].values()]
    ends = {row["t"]: row["sum"] for row in rows if row["rank"] == len(NAMES)}
    expected = {
        f"{cap:,}": sum(min(number, cap) for number in available) for cap in (77_000, 150_000, 250_000, 350_000, 450_000)
    }
    assert ends == expected | {"none": sum(available)}


def test_rings_go_once_around(page: str):
    charts = json.loads(re.search(r"const charts = (.*);\n", page)[1])
    for layer in charts[0]["layer"][:2]:
        rows = layer["data"]["values"]
        assert rows[0]["start"] == pytest.approx(0)
        assert rows[-1]["end"] == pytest.approx(2 * 3.14159265, rel=1e-6)
        assert all(one["end"] == pytest.approx(next_["start"]) for one, next_ in pairwise(rows))


@pytest.mark.slow
@pytest.mark.parametrize("size", [LAPTOP, PHONE])
@pytest.mark.parametrize("is_dark", [False, True])
def test_a_browser_draws_it(page: str, browser_page: Page, tmp_path: Path, size: tuple[int, int], is_dark: bool):
    path = tmp_path / "plan.html"
    path.write_text(page, encoding="utf-8")
    browser_page.open(path.as_uri(), size, is_dark=is_dark)
    browser_page.wait_for("document.querySelectorAll('[id^=chart-] svg').length === 3")
    arcs = browser_page.run(
        "Array.from(document.querySelectorAll('.mark-arc.role-mark')).map(group => group.querySelectorAll('path').length)"
    )
    assert arcs == [len(Category), len(NAMES)]
    assert browser_page.problems == []
    assert not browser_page.is_wider_than_its_window()
    drawn = "Array.from(document.querySelectorAll('.chart svg')).map(chart => chart.getBoundingClientRect().right)"
    assert max(browser_page.run(drawn)) <= size[0], "a chart is cut at the edge of the window"


def test_a_page_that_cannot_be_written_is_told(page: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_plan_page(tmp_path / "file" / "plan.html", [document()])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ConfigurationError, match=r"cambrian-curation\[pages\]"):
        plan_page([document()])
