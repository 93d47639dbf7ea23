"""Errors that curation raises at its edges, and the reasons a record or sample can be refused for.

    CurationError                what a user can mend; the command line prints it as one paragraph
    ├── ConfigurationError       catalog, mixture, settings or usage is wrong: exit status 2
    │   ├── CatalogError
    │   ├── MixtureError
    │   └── StoreError           the root cannot be used (no permission, disk full, not a folder)
    ├── PlanError                a mixture that asks for what is not there: exit status 1
    ├── GuardError               a source that cleaning or de-duplication all but emptied: exit status 1
    ├── LicenceError             a source without a known licence, where one is required: exit status 1
    ├── SourceError              upstream data that cannot be read as a whole: exit status 1
    │   └── FetchError           upstream data that cannot be had: unreachable, refused, gone, or not what was promised
    ├── ShardError               a release that does not hold what its manifest says: exit status 1
    └── WorkerError              processes or machines that do the work die again and again: exit status 1

Bad *records* raise nothing past the step that met them: they become rows with a `RejectReason`.
"""

from enum import StrEnum


class CurationError(Exception):
    """Something a user can mend. The message names the thing, what was found, what was expected and what to do."""

    exit_code = 1


class ConfigurationError(CurationError):
    """Settings, files or arguments given by the user are wrong."""

    exit_code = 2


class CatalogError(ConfigurationError):
    """The catalog file is missing, malformed or names what does not exist."""


class MixtureError(ConfigurationError):
    """A mixture YAML is missing, malformed or at odds with the catalog."""


class StoreError(ConfigurationError):
    """The root cannot be read or written."""


class PlanError(CurationError):
    """A well-formed mixture asks for more than the pool holds; `key` is the place in its file that asks."""

    def __init__(self, message: str, key: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.key = key


class GuardError(CurationError):
    """Cleaning and de-duplication dropped more of a source than the mixture's guard lets pass."""


class LicenceError(CurationError):
    """A source without a known licence, where one is required."""


class SourceError(CurationError):
    """Upstream data of one source cannot be read at all."""


class FetchError(SourceError):
    """Upstream data cannot be fetched, or what came is not what was promised."""


class ShardError(CurationError):
    """A shard, index or manifest is missing, truncated or out of step with the others."""


class WorkerError(CurationError):
    """A worker process or machine died more often than a task is tried."""


class RejectReason(StrEnum):
    """Why an upstream record did not become a sample (column `reason` of `rejected-*.parquet`)."""

    BAD_JSON = "bad_json"
    MISSING_FIELD = "missing_field"
    UNSUPPORTED_VALUE = "unsupported_value"
    EMPTY_QUESTION = "empty_question"
    EMPTY_ANSWER = "empty_answer"
    MARKER_MISMATCH = "marker_mismatch"
    TOO_MANY_IMAGES = "too_many_images"
    PATH_ESCAPES = "path_escapes"
    MISSING_IMAGE = "missing_image"
    ARCHIVE_DAMAGED = "archive_damaged"
    UNREADABLE_FILE = "unreadable_file"
    UNREADABLE_IMAGE = "unreadable_image"
    TRUNCATED_IMAGE = "truncated_image"
    IMAGE_TOO_LARGE = "image_too_large"
    CRASHED_DECODER = "crashed_decoder"


class DropReason(StrEnum):
    """Why a sample is not in the pool or not in a release (column `reason` of verdict tables)."""

    NO_WORDS = "no_words"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    SEMANTIC_DUPLICATE = "semantic_duplicate"
    REPEATED_TURNS = "repeated_turns"
    CONFLICTING_ANSWER = "conflicting_answer"
    CONTAMINATED = "contaminated"
    NO_PIXELS = "no_pixels"
    FILTERED = "filtered"
    OVER_CAP = "over_cap"
    OVER_QUOTA = "over_quota"
