"""Errors that training raises at its edges.

    TrainingError              what a user can mend; `python -m training` prints it as one paragraph, exit status 1
    ├── ConfigError            a run file, an argument or a setting is wrong: exit status 2
    ├── StreamError            a release, shard, index or saved position cannot be used
    │   └── SampleError        one sample cannot be read; `on_error="skip"` passes over it
    ├── CheckpointError        a checkpoint or a state_dict cannot be written, found or loaded
    └── LossError              the loss is no longer a number

Every message names the thing, what was found, what was expected and what to do.
"""


class TrainingError(Exception):
    """Something a user can mend."""

    exit_code = 1


class ConfigError(TrainingError):
    """Settings given by the user are wrong."""

    exit_code = 2


class StreamError(TrainingError):
    """A release does not hold what its manifest and index say, or a saved position does not fit the stream."""


class SampleError(StreamError):
    """One sample's bytes cannot be read or decoded."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, broken or made for another model."""


class LossError(TrainingError):
    """The loss of a train step is NaN or infinite."""
