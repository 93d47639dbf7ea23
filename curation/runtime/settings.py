"""How a run uses its machines: one small YAML file, `--runtime FILE` or `CURATION_RUNTIME_FILE`; every key has a default.

Nothing here changes what is made, only where and how fast: results are the same bytes under any settings.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from curation.errors import ConfigurationError
from curation.yaml_file import Settings, YamlFile

FILE_VARIABLE = "CURATION_RUNTIME_FILE"
KIND_VARIABLE = "CURATION_RUNTIME"
ADDRESS_VARIABLE = "RAY_ADDRESS"
MIN_STORE_BYTES = 76 << 20
"""Ray starts with no less."""

Kind = Literal["ray", "process"]
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(\w*)")


def parse_size(value: object) -> object:
    """Bytes of `256MiB` and the like; whole numbers are bytes already, and what is neither is left for the model to refuse."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"'{value}' is no size; write a number of bytes, or one with {', '.join(list(_UNITS)[1:])}: 512MiB")
    return int(float(found[1]) * _UNITS[found[2]])


Bytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]


class Share(Settings):
    """What Ray sets aside of a machine for one task or actor, starting no more of them than there is room for.

    `memory` is not counted where it is None.
    """

    cpus: Annotated[float, Field(gt=0)] = 1
    memory: Bytes | None = None

    @property
    def num_gpus(self) -> float:
        """GPUs that it takes; none unless it says so."""
        return 0

    def __str__(self) -> str:
        gpus = f", {self.num_gpus:g} GPUs" if self.num_gpus else ""
        memory = "" if self.memory is None else f", {self.memory / 2**30:.1f} GiB of memory"
        return f"{self.cpus:g} CPUs{gpus}{memory}"


class TaskSettings(Share):
    """What a task takes, and `retries`: how often one is run again whose worker or machine died."""

    retries: Annotated[int, Field(ge=0, le=100)] = 3


class EncoderSettings(Share):
    """Actors that hold an encoder for embeddings: how many at most, and what each takes; `gpus` may be a fraction."""

    actors: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @property
    def num_gpus(self) -> float:
        """See Share."""
        return self.gpus


class RuntimeSettings(Settings):
    """`runtime`: Ray, or one task after another in this process. `address`: a running cluster (`auto`, `host:port`); without
    one Ray is started here, with `workers` CPUs and an `object_store` of that size. `ship`: whether this project's
    code is sent to a cluster's workers, or is `installed` there.
    """

    runtime: Kind = "ray"
    address: str | None = None
    workers: Annotated[int, Field(ge=1, le=4_096)] | None = None
    object_store: Annotated[Bytes, Field(ge=MIN_STORE_BYTES)] = 256 << 20
    ship: Literal["code", "installed"] = "code"
    task: TaskSettings = TaskSettings()
    encoders: EncoderSettings = EncoderSettings()

    @property
    def is_cluster(self) -> bool:
        """Whether Ray runs already, maybe on other machines."""
        return self.runtime == "ray" and self.address is not None


def load_runtime(path: Path | None) -> RuntimeSettings:
    """The settings in `path`, or the defaults. Raises ConfigurationError that names file, line and key."""
    if path is None:
        return RuntimeSettings()
    file = YamlFile(path, error=ConfigurationError)
    settings = file.parse(RuntimeSettings, file.value if file.value is not None else {})
    if settings.address is not None and settings.workers is not None:
        raise file.fail("a cluster has its own number of CPUs; leave out `workers` or `address`", at=("workers",))
    return settings


def runtime_settings() -> RuntimeSettings:
    """The settings of this process: the file that CURATION_RUNTIME_FILE names, over which CURATION_RUNTIME and RAY_ADDRESS go.

    Raises ConfigurationError for a file that cannot be used or an unknown CURATION_RUNTIME.
    """
    named = os.environ.get(FILE_VARIABLE)
    settings = load_runtime(Path(named) if named else None)
    kind = os.environ.get(KIND_VARIABLE) or settings.runtime
    if kind not in ("ray", "process"):
        raise ConfigurationError(f"{KIND_VARIABLE} is '{kind}'; valid: ray, process")
    address = os.environ.get(ADDRESS_VARIABLE) or settings.address
    return settings.model_copy(update={"runtime": kind, "address": address})
