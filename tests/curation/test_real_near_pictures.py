"""The pair rule with look-alikes over real charts and pages, all asked the same question, so that pictures alone decide."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from curation.catalog.spec import Catalog
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import Mixture
from curation.storage.store import Store
from tests.curation.test_real_slices import catalog  # noqa: F401 (a fixture)
from tests.support.upstream import build, encoded, rows, write_catalog, write_files

pytestmark = pytest.mark.slow

NUM_CHARTS, NUM_PAGES = 60, 150
LOOK_ALIKES = {("opencqa", "3198"), ("chartqa", "9814"), ("opencqa", "5551"), ("chartqa", "7334")}
"""Two pairs of different charts of one house style, 8 bits apart (README.md of the slices)."""

COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg 30": lambda image: encoded(image, "JPEG", quality=30),
    "jpeg 95": lambda image: encoded(image, "JPEG", quality=95),
    "webp 75": lambda image: encoded(image, "WEBP", quality=75),
    "half": lambda image: encoded(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS), "PNG"),
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
}


def chosen(slices: Path) -> dict[tuple[str, str], Path]:
    """Charts and pages by collection and name."""
    charts, exam = slices / "opencqa" / "chart_images", slices / "_benchmarks" / "chartqa_test_complex" / "png"
    pages = slices / "im2latex_sample" / "images"
    found = {("opencqa", path.stem): path for path in sorted(charts.glob("*.png"))[:NUM_CHARTS]}
    found |= {(name, stem): (charts if name == "opencqa" else exam) / f"{stem}.png" for name, stem in LOOK_ALIKES}
    return found | {("pages", path.stem): path for path in sorted(pages.glob("*.png"))[:NUM_PAGES]}


def test_copies_go_with_their_original_and_originals_stay(catalog: Catalog, tmp_path: Path):  # noqa: F811
    originals = chosen(catalog.root_of(catalog.benchmarks["chartqa_test_complex"].parts[0]).parents[1])
    assert originals.keys() >= LOOK_ALIKES
    files: dict[str, bytes | str] = {}
    for (collection, stem), path in originals.items():
        files[f"pictures/{collection}-{stem}-original"] = path.read_bytes()
        if collection != "pages":
            shown = Image.alpha_composite(Image.new("RGBA", (image := Image.open(path)).size, "white"), image.convert("RGBA"))
            files |= {f"pictures/{collection}-{stem}-{kind}": copy(shown.convert("RGB")) for kind, copy in COPIES.items()}
    names = [name.removeprefix("pictures/") for name in files]
    records = [{"q": "What does the picture show?", "a": "A lot.", "image": name} for name in names]
    write_files(tmp_path, files | {"a.json": json.dumps(records)})
    row = {
        "category": "ocr",
        "layout": "qa",
        "location": {"root": ".", "files": "a.json"},
        "fields": {"question": "q", "answer": "a"},
        "images": {"path": "image", "folder": "pictures"},
    }
    spec = DedupSpec(near_images=True, bucket_cap=1_000)
    release = build(write_catalog(tmp_path, {"one": row}), Store.open(str(tmp_path / "root")), Mixture(name="all", dedup=spec))
    samples = rows(release.ingested["one"], "samples")
    name_of = {key: names[place] for key, place in zip(samples["sample_id"], samples["origin_position"], strict=True)}
    lost = rows(release.pool, "verdicts").filter(verdict="drop")
    twins = {name_of[row["sample_id"]]: name_of[row["twin_id"]] for row in lost.to_dicts()}
    of_others = {name: twin for name, twin in twins.items() if name.rsplit("-", 1)[0] != twin.rsplit("-", 1)[0]}
    assert of_others == {}
    num_charts = sum(collection != "pages" for collection, _ in originals)
    assert len(twins) >= 0.99 * num_charts * len(COPIES)
