import json
import re
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from curation.errors import ConfigurationError
from curation.explore.index import index_path, make_index, newest_release
from curation.explore.records import Records
from curation.explore.search import PAGE_ROWS, Index, Query
from curation.explore.site import listen, make_site
from curation.mixture.spec import Mixture
from curation.runtime.progress import reporter_for
from curation.storage.store import Store, read_manifest
from tests.support.browser import LAPTOP, PHONE, Page
from tests.support.s3 import s3_server
from tests.support.upstream import build, picture, write_catalog, write_files

SCRIPT = "<script>alert('x')</script>"
CHINESE = "一个红色的圆形在左边"


def row(number: int, question: str, answer: str = "yes", image: str | None = None) -> dict[str, Any]:
    return {"id": str(number), "q": question, "a": answer} | ({"image": image} if image else {})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("explored")
    (folder / "up").mkdir()
    shapes = [row(n, f"How many red circles, case {n}?", str(n), f"{n}.png") for n in range(30)]
    for number in range(30):
        (folder / "up" / f"{number}.png").write_bytes(picture(number))
    texts = [
        row(1, f"What does {SCRIPT} do?", "Nothing good."),
        row(2, CHINESE, "圆形"),
        row(3, "Wie heißt die Straße?", "Müllerstraße"),
        row(4, "A zebra crossing near an orchard of quinces", "quinces grow there"),
        row(5, "An orchard of quinces beside a zebra farm", "the zebra eats quinces"),
        row(6, "A zebra crossing near an orchard of quinces", "quinces grow there"),
        row(7, f"Empty {SCRIPT}", ""),
    ]
    (folder / "up" / "shapes.json").write_text(json.dumps(shapes))
    (folder / "up" / "texts.json").write_text(json.dumps(texts))
    sources: dict[str, dict[str, Any]] = {
        "shapes": {"category": "counting", "location": {"files": "shapes.json"}, "images": {"path": "image"}},
        "texts": {"category": "language", "location": {"files": "texts.json"}},
    }
    for source in sources.values():
        source |= {"layout": "qa", "fields": {"question": "q", "answer": "a"}}
    store = Store.open(str(folder / "root"))
    build(write_catalog(folder / "up", sources), store, Mixture(name="all"))
    return store


@pytest.fixture(scope="module")
def release(store: Store) -> Path:
    folder = newest_release(store)
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def index(store: Store, release: Path) -> Iterator[Index]:
    opened = Index(make_index(store, release, reporter_for(is_quiet=True)))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def site(store: Store, release: Path, index: Index) -> TestClient:
    records = Records(store, read_manifest(release)["inputs"]["sources"])
    return TestClient(make_site("all", index, records, hosts=["testserver"]))


@pytest.fixture(scope="module")
def served(store: Store, release: Path, index: Index) -> Iterator[str]:
    """The address of the site, served as `curate explore` does."""
    records = Records(store, read_manifest(release)["inputs"]["sources"])
    site = make_site("all", index, records, hosts=["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(site, log_level="error"))
    listening = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def ids(index: Index, text: str = "", **facets: str) -> list[str]:
    return [str(found["question"]) for found in index.find(Query(text=text, facets=facets)).rows]


class TestSearch:
    def test_all_words_must_occur(self, index: Index):
        assert len(ids(index, "zebra quinces")) == 3
        assert len(ids(index, "zebra farm")) == 1
        assert ids(index, "zebra absent") == []

    def test_a_phrase_is_found_in_its_order(self, index: Index):
        assert len(ids(index, '"zebra crossing"')) == 2
        assert ids(index, '"crossing zebra"') == []

    def test_a_beginning_is_enough_with_a_star(self, index: Index):
        assert len(ids(index, "quin*")) == 3

    def test_accents_do_not_matter(self, index: Index):
        assert ids(index, "mullerstraße") == ["Wie heißt die Straße?"]

    @pytest.mark.parametrize("part", ["圆形", "红色的", CHINESE])
    def test_any_part_of_a_text_without_spaces_is_found(self, index: Index, part: str):
        assert ids(index, part) == [CHINESE]

    @pytest.mark.parametrize("text", ['"', "a AND", 'x" OR text:"y', "NEAR(", "*", "text:zebra", "-", "(" * 50, "\x00"])
    def test_nothing_typed_breaks_the_query(self, index: Index, text: str):
        index.find(Query(text=text))

    def test_facets_count_and_filter(self, index: Index):
        assert dict(index.facets["source"]) == {"shapes": 30, "texts": 7}
        assert dict(index.facets["verdict"]) == {"keep": 35, "drop": 1, "rejected": 1}
        assert len(ids(index, "zebra", verdict="drop")) == 1
        assert len(ids(index, reason="empty_answer")) == 1
        assert ids(index, source="elsewhere") == []

    def test_pages_hold_every_row_once(self, index: Index):
        seen: list[str] = []
        after, pages = 0, 0
        while True:
            found = index.find(Query(text="circles", after=after))
            assert found.num == 30
            seen += [str(row["id"]) for row in found.rows]
            after, pages = found.after, pages + 1
            if not after:
                break
        assert pages == 2
        assert len(seen) == len(set(seen)) == 30 > PAGE_ROWS

    def test_alike_are_those_that_share_rare_words(self, index: Index):
        [first] = index.find(Query(text="zebra farm")).rows
        alike = index.alike(first, "An orchard of quinces beside a zebra farm")
        assert {row["question"] for row in alike} == {"A zebra crossing near an orchard of quinces"}


class TestIndex:
    def test_it_is_made_once(self, store: Store, release: Path, index: Index):
        path = index_path(store, release)
        made = path.stat().st_mtime_ns
        assert make_index(store, release, reporter_for(is_quiet=True)) == path
        assert path.stat().st_mtime_ns == made


def test_the_list_links_to_each_sample_and_its_picture(site: TestClient):
    page = site.get("/", params={"source": "shapes"}).text
    links = set(re.findall(r'href="(/sample/[^"]+)"', page))
    assert len(links) == PAGE_ROWS
    shown = site.get(re.findall(r'src="(/picture/[^"]+)"', page)[3])
    assert shown.headers["content-type"] == "image/png"
    assert shown.content == picture(3) or shown.content in [picture(n) for n in range(30)]
    assert "30 found" in page
    following = unescape(re.findall(r'class="next" rel="next" href="([^"]+)"', page)[0])
    assert len(set(re.findall(r'href="(/sample/[^"]+)"', site.get(following).text))) == 5


def test_text_from_data_is_shown_and_never_run(site: TestClient, index: Index):
    for params in ({"q": "good"}, {"reason": "empty_answer"}, {"q": SCRIPT}):
        page = site.get("/", params=params)
        assert "<script" not in page.text
        assert "alert" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    for row in index.find(Query(text="alert")).rows:
        page = site.get(f"/sample/{row['id']}")
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text


def test_a_duplicate_is_shown_beside_its_twin(site: TestClient, index: Index):
    [dropped] = index.find(Query(facets={"verdict": "drop"})).rows
    page = site.get(f"/sample/{dropped['id']}").text
    assert "Its twin, which was kept" in page
    assert dropped["twin_id"] in page
    keeper = site.get(f"/sample/{dropped['twin_id']}").text
    assert "Duplicates" in keeper
    assert dropped["id"] in keeper


def test_a_rejected_record_is_shown_with_what_was_read(site: TestClient):
    page = site.get("/sample/texts:texts.json:6")
    assert page.status_code == 200
    assert "empty_answer" in page.text
    assert "&#34;q&#34;" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/sample/none-such",
        "/sample/../../etc/passwd",
        "/sample/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/picture/0/none-such",
        "/picture/0/texts:texts.json:6",
        "/picture/0/..%2f..%2fmanifest.json",
    ],
)
def test_what_is_not_there_is_not_found(site: TestClient, path: str):
    assert site.get(path).status_code == 404


def test_a_picture_number_that_the_sample_does_not_have(site: TestClient, index: Index):
    [row] = index.find(Query(text='"case 7"')).rows
    assert site.get(f"/picture/1/{row['id']}").status_code == 404
    assert site.get(f"/picture/-1/{row['id']}").status_code in (404, 422)
    assert site.get(f"/picture/0/{row['id']}").content == picture(7)


def test_other_hosts_names_are_refused(site: TestClient):
    assert site.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("size", [LAPTOP, PHONE])
@pytest.mark.parametrize("is_dark", [False, True])
def test_in_a_browser_it_fits_and_shows_its_pictures(browser_page: Page, served: str, size: tuple[int, int], is_dark: bool):
    browser_page.open(f"{served}/?source=shapes", size, is_dark=is_dark)
    browser_page.wait_for("Array.from(document.images).slice(0, 3).every(image => image.naturalWidth > 0)")
    assert not browser_page.is_wider_than_its_window()
    browser_page.open(f"{served}/?q=quinces&verdict=drop", size, is_dark=is_dark)
    browser_page.run("document.querySelector('.entry .id a').click()")
    browser_page.wait_for("document.body?.innerText.includes('Its twin, which was kept')")
    assert not browser_page.is_wider_than_its_window()
    assert browser_page.problems == []


@pytest.mark.slow
def test_in_a_browser_words_and_filters_are_asked_for(browser_page: Page, served: str):
    browser_page.open(served)
    browser_page.run("document.querySelector('[name=q]').value = 'zebra'")
    browser_page.choose("select[name=verdict]", "drop")
    browser_page.run("document.querySelector('form').requestSubmit()")
    browser_page.wait_for("document.readyState === 'complete' && document.querySelector('.num')?.innerText === '1 found'")
    assert browser_page.run("document.querySelector('select[name=verdict]').value") == "drop"
    browser_page.open(f"{served}/?q=alert")
    assert "<script>" in browser_page.run("document.body.innerText")
    assert browser_page.run("document.scripts.length") == 0
    assert browser_page.problems == []


def test_a_root_in_object_storage_is_explored_from_a_machine_that_has_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "here"))
    write_files(
        tmp_path / "up", {"0.png": picture(0), "a.json": json.dumps([row(0, "Which one?", "This.", "0.png"), row(1, "", "")])}
    )
    source = {
        "category": "counting", "location": {"files": "a.json"}, "images": {"path": "image", "optional": True},
        "layout": "qa", "fields": {"question": "q", "answer": "a"},
    }  # fmt: skip
    with s3_server(monkeypatch):
        build(write_catalog(tmp_path / "up", {"a": source}), Store.open("s3://lake/explored"), Mixture(name="all"))
        monkeypatch.setenv("CURATION_CACHE", str(tmp_path / "elsewhere"))
        store = Store.at("s3://lake/explored")
        release = newest_release(store)
        assert release is not None
        opened = Index(make_index(store, release, reporter_for(is_quiet=True)))
        records = Records(store, read_manifest(release)["inputs"]["sources"])
        [found] = opened.find(Query(text="which")).rows
        assert records.picture(found, 0) == (picture(0), "image/png")
        assert opened.find(Query(facets={"verdict": "rejected"})).num == 1
        opened.close()


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen at 127.0.0.1 port {port}: .*in use.*; --port 0 takes"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigurationError, match=r"cannot listen at no-such-host.invalid"):
        listen("no-such-host.invalid", 0)
