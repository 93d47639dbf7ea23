"""Places in repositories on the Hub as URLs name them: `hf://datasets/owner/name[@revision][/path]`."""

import re
from dataclasses import dataclass

_URL = re.compile(r"hf://datasets/(?P<dataset>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.*))?")


@dataclass(frozen=True, slots=True)
class HubPath:
    """A place in a dataset's repository."""

    dataset: str
    revision: str
    path: str

    def __str__(self) -> str:
        return f"hf://datasets/{self.dataset}@{self.revision}" + (f"/{self.path}" if self.path else "")


def hub_path(url: str) -> HubPath | None:
    """What `url` means; None for one that is no place in a dataset's repository."""
    match = _URL.fullmatch(url)
    return HubPath(match["dataset"], match["revision"] or "main", (match["path"] or "").strip("/")) if match else None
