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


_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def prepare_environment(*, verbosity: int = 0, is_quiet: bool = False) -> None:
    """Set defaults, and log to stderr: warnings; only errors when quiet; from verbosity 1 on steps and libraries too."""
    level = logging.ERROR if is_quiet else _LEVELS[min(verbosity, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    for name, value in {**_DEFAULTS, **(_QUIET if verbosity == 0 else {})}.items():
        os.environ.setdefault(name, value)
    if verbosity == 0:
        warnings.simplefilter("ignore")
        for name in ("prefect", "ray", "httpx", "uvicorn"):
            logging.getLogger(name).setLevel(logging.ERROR)
