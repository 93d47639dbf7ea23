"""Data on the Hugging Face Hub, at one commit: a split of a dataset streamed into Parquet files, or files of its repository.

A branch is resolved to a commit once, and that commit is kept under the root until `refresh` is wanted: the same catalog gives
the same samples tomorrow. Streaming goes through `datasets`, pictures and sounds as the bytes that were published, never
decoded; no code of a repository is ever run (`datasets` knows no such thing any more). The token comes from HF_TOKEN only.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.pins import COMMIT
from curation.errors import FetchError
from curation.fetch.addresses import without_secrets
from curation.fetch.embedding import with_bytes
from curation.fetch.http import HttpFile
from curation.fetch.local import is_whole, make_whole
from curation.fingerprint import fingerprint
from curation.runtime.progress import Reporter
from curation.storage.store import read_object, replacing, write_json

TOKEN = "HF_TOKEN"
ROWS_AT_ONCE = 64
GROUP_BYTES = 32 << 20
FILE_BYTES = 512 << 20
_STATE = ".state.json"
_REFS = "refs.json"


@dataclass(frozen=True, slots=True)
class HubSplit:
    """One split of a dataset, at a revision that may be a branch. `dataset` may also be a folder, for tests and mirrors."""

    dataset: str
    config: str | None
    split: str
    revision: str


def resolved(dataset: str, revision: str, home: Path, *, refresh: bool = False) -> str:
    """The commit that `revision` of a dataset means: as remembered in `home`, or as the Hub says now.

    Raises FetchError when it is not known here and the Hub cannot be asked, or has no such dataset or revision.
    """
    if COMMIT.fullmatch(revision):
        return revision
    path = home / _REFS
    known = read_object(path) if path.exists() else {}
    if revision in known and not refresh:
        return str(known[revision])
    commit = str(_asked(dataset, revision, lambda api: api.dataset_info(dataset, revision=revision)).sha)
    write_json(path, {**known, revision: commit})
    return commit


def remembered_commit(dataset: str, revision: str, root: Path) -> str | None:
    """The commit at which `revision` of a dataset was fetched below `root`, if it was."""
    path = home_of(dataset, root) / _REFS
    commit = read_object(path).get(revision) if path.exists() else None
    return None if commit is None else str(commit)


def forget_revision(dataset: str, revision: str, root: Path) -> None:
    """Let the next ingestion ask which commit `revision` is; what was fetched at others stays."""
    path = home_of(dataset, root) / _REFS
    if path.exists():
        write_json(path, {name: commit for name, commit in read_object(path).items() if name != revision})


def ask_dataset(dataset: str, revision: str) -> Any:
    """What the Hub says of a dataset at a revision now: commit, files with sizes, card. Raises FetchError."""
    return _asked(dataset, revision, lambda api: api.dataset_info(dataset, revision=revision, files_metadata=True))


def home_of(dataset: str, root: Path) -> Path:
    """Where what is fetched of a dataset lies below `root`."""
    return root / "upstream" / "hub" / dataset.replace("/", "--")


def _asked(dataset: str, revision: str, question: Any) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return question(HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get(TOKEN) or False))
    except GatedRepoError:
        raise FetchError(
            f"hub:{dataset}: access is granted to accounts that asked for it; set {TOKEN} to the token of one"
        ) from None
    except RevisionNotFoundError:
        raise FetchError(f"hub:{dataset}: there is no revision '{revision}'; it was removed, or never was") from None
    except RepositoryNotFoundError:
        raise FetchError(f"hub:{dataset}: no such dataset, or it is private (then set {TOKEN})") from None
    except Exception as problem:  # the client raises whatever its transport raises
        words = without_secrets(f"{type(problem).__name__}: {str(problem).strip().split(chr(10), 1)[0]}"[:300])
        raise FetchError(
            f"hub:{dataset}@{revision}: the Hub cannot be asked and nothing was fetched before ({words})"
        ) from None


# --- A split ------------------------------------------------------------------------------------------------------------


def fetch_split(what: HubSplit, commit: str | None, folder: Path, reporter: Reporter) -> Path:
    """Stream a split into `folder/part-*.parquet`; continues where a killed attempt finished its last file.

    `commit` is None for a dataset in a folder. Raises FetchError when the split is not there or cannot be reached.
    """
    if is_whole(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    state = read_object(folder / _STATE) if (folder / _STATE).exists() else {"files": [], "position": None}
    try:
        stream = _stream(what, commit)
        if state["position"] is not None:
            stream.load_state_dict(state["position"])
        _write(stream, what, commit, folder, state, reporter)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, pa.ArrowException) as problem:
        raise _unreachable(what, problem) from None
    files: list[dict[str, Any]] = state["files"]
    facts = {"dataset": what.dataset, "config": what.config, "split": what.split, "revision": what.revision, "commit": commit}
    (folder / _STATE).unlink(missing_ok=True)
    make_whole(folder, {**facts, "records": sum(file["records"] for file in files), "files": files})
    return folder


def fetch_head(what: HubSplit, commit: str | None, num_rows: int, folder: Path) -> Path:
    """The first `num_rows` rows of a split as `folder/part-00000.parquet`, to look at. Raises FetchError as `fetch_split`."""
    try:
        token = os.environ.get(TOKEN)
        batches = _stream(what, commit).take(num_rows).iter(batch_size=ROWS_AT_ONCE)
        table = pa.concat_tables([with_bytes(table, what.dataset, commit, token) for table in batches])
        with replacing(folder / "part-00000.parquet") as temporary:
            pq.write_table(table.replace_schema_metadata(None), temporary)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, pa.ArrowException) as problem:
        raise _unreachable(what, problem) from None
    return folder


def _unreachable(what: HubSplit, problem: Exception) -> FetchError:
    place = f"hub:{what.dataset} (config {what.config or 'default'}, split {what.split}, revision {what.revision})"
    words = without_secrets(f"{type(problem).__name__}: {str(problem).strip().split(chr(10), 1)[0]}"[:400])
    return FetchError(f"{place} cannot be streamed: {words}")


def _stream(what: HubSplit, commit: str | None) -> Any:
    import datasets

    if commit is not None and Path(what.dataset).exists():
        raise ValueError(f"a folder '{what.dataset}' lies here, which `datasets` would read in its place; run elsewhere")
    datasets.disable_progress_bars()
    options: dict[str, Any] = {"name": what.config, "split": what.split, "streaming": True}
    if commit is not None:
        options |= {"revision": commit, "token": os.environ.get(TOKEN) or False}
    stream = datasets.load_dataset(what.dataset, **options)
    if stream.features is not None:
        stream = stream.decode(False)
    return stream.with_format("arrow")


def _write(stream: Any, what: HubSplit, commit: str | None, folder: Path, state: dict[str, Any], reporter: Reporter) -> None:
    """Files of bounded row groups; after each, where the stream stands is noted."""
    with reporter.track(f"fetch hub:{what.dataset} (rows)", 0) as track:
        token = os.environ.get(TOKEN)
        batches = (with_bytes(table, what.dataset, commit, token) for table in stream.iter(batch_size=ROWS_AT_ONCE))
        while (table := next(batches, None)) is not None:
            path = folder / f"part-{len(state['files']):05d}.parquet"
            num_rows = 0
            with replacing(path) as temporary, pq.ParquetWriter(temporary, table.schema.remove_metadata()) as writer:
                for group in _groups(table, batches):
                    writer.write_table(group.cast(writer.schema), row_group_size=len(group))
                    num_rows += len(group)
                    track.advance(len(group))
            state["files"].append({"name": path.name, "records": num_rows})
            state["position"] = stream.state_dict()
            write_json(folder / _STATE, state)


def _groups(first: pa.Table, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Row groups of about GROUP_BYTES until FILE_BYTES are reached."""
    group, size, written = [first], first.nbytes, 0
    while True:
        if size >= GROUP_BYTES:
            yield pa.concat_tables(group)
            written += size
            group, size = [], 0
            if written >= FILE_BYTES:
                return
        table = next(batches, None)
        if table is None:
            break
        group.append(table)
        size += table.nbytes
    if group:
        yield pa.concat_tables(group)


# --- Files of a repository ----------------------------------------------------------------------------------------------


def repository_files(dataset: str, commit: str, home: Path) -> dict[str, HttpFile]:
    """All files of a dataset's repository at a commit, by name, with what is promised of each.

    The listing is remembered. Raises FetchError when it is not known here and the Hub cannot be asked.
    """
    from huggingface_hub import hf_hub_url

    path = home / f"files-{commit}.json"
    if not path.exists():
        tree = _asked(
            dataset, commit, lambda api: list(api.list_repo_tree(dataset, recursive=True, revision=commit, repo_type="dataset"))
        )
        write_json(path, {"commit": commit, "files": [_entry(item) for item in tree if hasattr(item, "size")]})
    endpoint = os.environ.get("HF_ENDPOINT")
    files: dict[str, HttpFile] = {}
    for entry in read_object(path)["files"]:
        url = hf_hub_url(dataset, entry["name"], repo_type="dataset", revision=commit, endpoint=endpoint)
        files[entry["name"]] = HttpFile(url, entry["name"], entry["size"], entry["sha256"], TOKEN)
    return files


def _entry(item: Any) -> Mapping[str, Any]:
    return {"name": item.path, "size": item.size, "sha256": item.lfs.sha256 if item.lfs else None}


def split_folder(what: HubSplit, commit: str | None, root: Path) -> Path:
    """Where a split is kept: by dataset, commit and what of it."""
    name = fingerprint([what.config, what.split])
    return (
        home_of(what.dataset, root) / (commit or "local") / f"{what.config or 'default'}-{what.split}-{name}".replace("/", "-")
    )
