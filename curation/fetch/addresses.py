"""Which hosts may be asked: public ones. A URL in a catalog, or a redirect from one, must not reach into a private network.

CURATION_ALLOW_PRIVATE_HOSTS=1 lifts this for what a catalog names, for mirrors inside a network of one's own, and `all` for
URLs that records hold, too. Those are written by strangers, so nothing from the environment is ever put into them.
"""

import ipaddress
import os
import re
import socket
import urllib.request
from urllib.parse import urlsplit

from curation.errors import CatalogError, FetchError

ALLOW_PRIVATE = "CURATION_ALLOW_PRIVATE_HOSTS"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s'\"]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Unresolved(FetchError):
    """A host whose name means nothing, or nothing now: without a network no name does."""


def shown_url(url: str) -> str:
    """`url` for people: without user, password, query and fragment, where credentials and signatures stand."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path


def without_secrets(text: str) -> str:
    """`text` without the values of environment variables whose names say that they are secret."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET.search(name):
            text = text.replace(value, f"${{{name}}}")
    return _URL.sub(lambda match: shown_url(match[0]), text)


def expanded_url(url: str) -> str:
    """`url` with `${NAME}` from the environment: the place for credentials, which are never shown or written.

    Raises CatalogError when a variable is not set, or when the URL itself holds a password.
    """
    if urlsplit(url).password and not _VARIABLE.search(urlsplit(url).netloc):
        raise CatalogError(f"url {shown_url(url)}: it holds a password; put it into the environment and write ${{NAME}}")

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise CatalogError(f"url {shown_url(url)}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, url)


def _is_lifted(*, is_from_data: bool) -> bool:
    return os.environ.get(ALLOW_PRIVATE) in (("all",) if is_from_data else ("1", "all"))


def expect_public(url: str, *, is_from_data: bool = False) -> None:
    """Raises FetchError unless `url` is http(s) and its host has public addresses only."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise FetchError(f"{shown_url(url)}: only http:// and https:// URLs are fetched")
    if _is_lifted(is_from_data=is_from_data):
        return
    if _is_by_proxy(url):
        _expect_public_name(parts.hostname, url)
        return
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise Unresolved(
            f"{shown_url(url)}: host '{parts.hostname}' cannot be resolved ({problem}); is there a network?"
        ) from None
    for *_, address in found:
        expect_public_address(str(address[0]), url)


def _is_by_proxy(url: str) -> bool:
    """Whether a proxy named in the environment makes the connection, and resolves the name."""
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


def _expect_public_name(host: str, url: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
            raise _refusal(host, url) from None
    else:
        expect_public_address(host, url)


def expect_public_peer(peer: object, url: str, *, is_from_data: bool = False) -> None:
    """Raises FetchError when the connection that answers for `url` is to a private address: names can change meanwhile."""
    if not _is_lifted(is_from_data=is_from_data) and isinstance(peer, tuple) and peer and not _is_by_proxy(url):
        expect_public_address(str(peer[0]), url)


def expect_public_address(address: str, url: str) -> None:
    """Raises FetchError unless the IP `address` is a public one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if not (mapped or ip).is_global or ip.is_multicast:
        raise _refusal(address, url)


def _refusal(address: str, url: str) -> FetchError:
    return FetchError(
        f"{shown_url(url)}: {address} is a private address, which no catalog may reach; "
        f"set {ALLOW_PRIVATE}=1 if this is a mirror of yours"
    )
