"""Who may speak to the API at all: a local tool or a named web origin, not whatever page a browser has open.

Checks the headers of every request before anything is read (reliability.md T17: DNS rebinding, CSRF). Not for keys
and scopes (keyring). Counterpart: app and asgi, which ask before each request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from meshnode.config.front import FrontSection
from meshnode.errors import BadRequest, Forbidden

_LOCAL_NAMES = frozenset({"localhost", "localhost."})


class Gate:
    """The Host allow-list and the Origin list of one section. Header names are lower case throughout."""

    def __init__(self, section: FrontSection) -> None:
        bind = host_name(section.api)
        self._hosts = frozenset({*(name.lower() for name in section.allowed_hosts), bind})
        self._any_address = bind in ("0.0.0.0", "::", "")  # noqa: S104
        self._origins = frozenset(section.allowed_origins)
        self._known_good: set[str] = set()

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises Forbidden or BadRequest for a request that must not be answered."""
        host = headers.get("host", "")
        if host not in self._known_good:
            self._check_host(host)
        origin = headers.get("origin")
        if origin is not None or "sec-fetch-site" in headers:
            self._check_browser(origin, host, headers)
        if method == "POST":
            kind = headers.get("content-type", "")
            if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
                raise BadRequest("A POST needs 'content-type: application/json'")

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may read answers; the only ones that ever get a CORS header."""
        return origin in self._origins

    def _check_host(self, host: str) -> None:
        """A rebinding page's Host is a name of its own; an address, a loopback name or a listed name is never that."""
        name = host_name(host)
        if not (name in self._hosts or name in _LOCAL_NAMES or name.endswith(".localhost") or self._is_ours(name)):
            raise Forbidden(f"Host '{host[:100]}' is not served here; add it to front.allowed_hosts if it should be")
        if len(self._known_good) < 64:
            self._known_good.add(host)

    def _is_ours(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._any_address

    def _check_browser(self, origin: str | None, host: str, headers: Mapping[str, str]) -> None:
        if origin is not None:
            if origin in self._origins:
                return
            if origin not in (f"http://{host}", f"https://{host}"):
                raise Forbidden(f"Origin '{origin[:100]}' may not call this API; see front.allowed_origins")
        if headers.get("sec-fetch-site", "") == "cross-site":
            raise Forbidden("Requests from other web sites are refused")


def host_name(host: str) -> str:
    """The name of a Host header or bind address: without port and brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()
