"""Which rows of an index a stream keeps: by a list of sample_ids, by a condition on index columns, or by category.

Restricting a stream costs a pass over the columns that decide, and no shard is written again. Counts stay exact, because
what is not kept does not exist for the order.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from curation.shard_format import INDEX_COLUMNS
from training.errors import ConfigError, StreamError
from training.index import Release
from training.order import Int64s

Keep: TypeAlias = str | os.PathLike[str] | pc.Expression
"""A Parquet file with a column `sample_id`, or a condition such as `pc.field("num_tokens") <= 2048` on index columns."""


def keep_rows(release: Release, keep: Keep) -> Int64s:
    """Rows of a release that are kept, ascending. Raises StreamError for a keep-list that cannot be read or applied."""
    if isinstance(keep, pc.Expression):
        return _rows_where(release, keep)
    try:
        listed = pq.read_table(os.fspath(keep), columns=["sample_id"])["sample_id"]
    except (OSError, pa.ArrowInvalid) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
        raise StreamError(
            f"keep-list '{os.fspath(keep)}': {reason}; expected a Parquet file with a column sample_id"
        ) from error
    ids = release.columns("sample_id")["sample_id"]
    return np.flatnonzero(pc.is_in(ids, listed.cast(ids.type).combine_chunks()).to_numpy())


def _rows_where(release: Release, condition: pc.Expression) -> Int64s:
    names = [name for name in INDEX_COLUMNS if f"{name}" in str(condition)]
    try:
        table = release.columns(*names).append_column("__row", pa.array(np.arange(release.num_samples)))
        return np.asarray(table.filter(condition)["__row"].to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError) as error:
        raise StreamError(
            f"release '{release.name}': the condition {condition} cannot be applied to the index: {error}; its columns are "
            f"{', '.join(INDEX_COLUMNS)}"
        ) from error


def by_category(release: Release) -> dict[str, Release]:
    """The release in parts, one a category, in order of name."""
    categories = release.columns("category")["category"]
    names = sorted(pc.unique(categories).to_pylist())
    return {name: release.keep(np.flatnonzero(pc.equal(categories, name).to_numpy())) for name in names}


def read_ratios(path: Path) -> Mapping[str, float]:
    """`ratios` of a mixture YAML: a share for each category. Raises ConfigError naming the file, and what is wrong in it."""
    try:
        content: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"mixture '{path}' cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"mixture '{path}' is not valid YAML: {' '.join(str(error).split())}") from error
    ratios = content.get("ratios") if isinstance(content, dict) else None
    if not isinstance(ratios, dict) or not ratios:
        raise ConfigError(f"mixture '{path}' has no `ratios`; weights are taken from there: add a share for each category")
    for name, ratio in ratios.items():
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or ratio < 0:
            raise ConfigError(f"mixture '{path}': the ratio of '{name}' is {ratio!r}; expected a number of at least 0")
    return {str(name): float(ratio) for name, ratio in ratios.items()}


def weights_version(name: str, weights: Mapping[str, float]) -> str:
    """What states and logs call some weights: a name, and a few digits that tell another content under the same name."""
    content = json.dumps({part: float(weight) for part, weight in weights.items()}, sort_keys=True)
    return f"{name}@{hashlib.sha256(content.encode()).hexdigest()[:8]}"
