"""Process settings that must be in place before Prefect and Ray are imported: quiet, local, and without call-outs.

Every value is a default: what the user has set in the environment stays. `PREFECT_API_URL` and `RAY_ADDRESS` point the
flows at a running Prefect server and Ray cluster.
"""

import logging
import os
import warnings

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a cold start took 15 s on two busy cores
    "RAY_USAGE_STATS_ENABLED": "0",
}
_QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


def prepare_environment(*, verbosity: int = 0) -> None:
    """Set defaults; from verbosity 1 on the libraries may speak for themselves."""
    for name, value in {**_DEFAULTS, **(_QUIET if verbosity == 0 else {})}.items():
        os.environ.setdefault(name, value)
    if verbosity == 0:
        warnings.simplefilter("ignore")
        for name in ("prefect", "ray", "httpx", "uvicorn"):
            logging.getLogger(name).setLevel(logging.ERROR)
