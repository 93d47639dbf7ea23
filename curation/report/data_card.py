"""`README.md` of a release: a Hugging Face dataset card whose YAML head makes `datasets` read the shards without arguments."""

from collections.abc import Sequence
from typing import Any

import jinja2
import yaml

from curation.catalog.spec import UNKNOWN_LICENSE
from curation.report.release_facts import ReleaseFacts
from curation.report.wording import environment
from curation.shard_format import SHARD_FOLDER

CARD_NAME = "README.md"
_HUB_LICENSES = {
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "cdla-sharing-1.0", "gfdl", "gpl-2.0", "gpl-3.0", "mit", "mpl-2.0", "odbl", "pddl", "unlicense",
}  # fmt: skip
"""Identifiers the hub knows; any other licence is called `other` there and named beside it."""
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SIZES_ABOVE = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"))


def render_card(release: ReleaseFacts) -> str:
    """The whole card."""
    head = yaml.safe_dump(card_head(release), sort_keys=False, allow_unicode=True, width=1_000)
    settings = yaml.safe_dump(dict(release.mixture), sort_keys=False, allow_unicode=True, width=1_000)
    templates = environment(autoescape=False)
    templates.filters["cell"] = _cell
    template: jinja2.Template = templates.get_template("data_card.md.j2")
    return template.render(
        release=release,
        head=head,
        settings=settings.rstrip(),
        unknown=[source.name for source in release.present if source.is_license_unknown],
        has_targets=any(category.target is not None for category in release.categories),
        shards=f"{SHARD_FOLDER}/*.tar",
    )


def card_head(release: ReleaseFacts) -> dict[str, Any]:
    """The metadata that the hub reads."""
    return {
        **_license(list(release.licenses)),
        "pretty_name": release.name,
        "task_categories": _tasks(release),
        "tags": ["webdataset", "multimodal", "instruction-tuning", *sorted(c.name for c in release.categories)],
        "size_categories": [size_category(release.num_samples)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"{SHARD_FOLDER}/*.tar"}]}],
        "dataset_info": {"config_name": "default", "features": _features(release.image_members)},
    }


def size_category(num_samples: int) -> str:
    """The hub's name for a range of sizes."""
    return next((name for limit, name in _SIZES + _SIZES_ABOVE if num_samples < limit), "n>1B")


def _license(names: Sequence[str]) -> dict[str, str]:
    link = {"license_link": f"{CARD_NAME}#licences"}
    if len(names) == 1 and names[0].lower() in _HUB_LICENSES:
        return {"license": names[0].lower()}
    if len(names) == 1 and names[0] != UNKNOWN_LICENSE:
        return {"license": "other", "license_name": names[0], **link}
    if names in ([], [UNKNOWN_LICENSE]):
        return {"license": "other", "license_name": UNKNOWN_LICENSE, **link}
    return {"license": "other", "license_name": "several-licences-by-source", **link}


def _tasks(release: ReleaseFacts) -> list[str]:
    tasks = ["visual-question-answering", "image-text-to-text"] if release.num_illustrated else []
    return [*tasks, "question-answering", "text-generation"] if release.num_illustrated < release.num_samples else tasks


def _features(image_members: Sequence[str]) -> list[dict[str, Any]]:
    """Columns as `datasets` names and types them. Stated because it would guess them from the first five samples only,
    and refuses those when some have images and others none."""
    sample = {
        "id": "string",
        "source": "string",
        "category": "string",
        "conversations": {"list": _columns({"from": "string", "value": "string"})},
        "images": {"list": _columns({"name": "string", "width": "int32", "height": "int32", "sha256": "string"})},
        "license": "string",
        "origin": {"struct": _columns({"file": "string", "position": "int64", "id": "string"})},
    }
    return _columns(
        {
            "__key__": "string",
            "__url__": "string",
            "json": {"struct": _columns(sample)},
            **dict.fromkeys(image_members, "image"),
        }
    )


def _columns(kinds: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, **(kind if isinstance(kind, dict) else {"dtype": kind})} for name, kind in kinds.items()]


def _cell(text: object) -> str:
    """Text that cannot break out of a Markdown table cell, nor be taken for markup."""
    shown = " ".join(str(text).split())
    for sign in "\\`*[]<>|":
        shown = shown.replace(sign, f"\\{sign}")
    return shown
