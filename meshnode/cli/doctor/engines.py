"""The engines for `doctor`: those the node knows, else those at the usual places, and who else may use them.

Asks only this machine, and only for its list of models. Not for using engines (engine).
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

import psutil

from meshnode.cli.doctor.facts import EngineAt
from meshnode.cli.report import Report
from meshnode.config import Config
from meshnode.engine.probe import DEFAULT_URLS

ANSWER_S = 2.0
"""A busy engine answers for its models within a second."""

_WILD = ("0.0.0.0", "::")  # noqa: S104 - compared with
_HERE = ("127.0.0.1", "::1", "localhost", *_WILD)


def gather(config: Config, seen: Report | None) -> tuple[EngineAt, ...]:
    """Engines with their states. Without a running node: the configured ones, and those found at the usual places."""
    wild = wild_ports()
    if seen is not None:
        return tuple(
            EngineAt(one.name, one.kind, one.url, one.state, one.detail, open_to(one.url, one.state, wild))
            for one in seen.engines
        )
    probed = DEFAULT_URLS if "auto" in config.engine.engines else ()
    found = []
    for url in dict.fromkeys((*config.engine.urls, *probed)):
        status = _status(url)
        if status == 200 or url in config.engine.urls:
            state = "ready" if status == 200 else "down"
            detail = "" if status == 200 else f"status {status}" if status else "nobody answers"
            found.append(EngineAt(url, "", url, state, detail, open_to(url, state, wild)))
    return tuple(found)


def wild_ports() -> Mapping[int, str]:
    """Ports of this machine that listen on every interface, with the address; none where the system does not say."""
    try:
        sockets = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return {}
    return {
        one.laddr.port: one.laddr.ip
        for one in sockets
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.ip in _WILD
    }


def open_to(url: str, state: str, wild: Mapping[int, str]) -> str:
    """The address by which every machine reaches an engine of this one. It answered the node, which has no key."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    return wild.get(port, "") if port is not None and host in _HERE and state != "down" else ""


def _status(url: str) -> int:
    """The status of its list of models; 0 when nobody answers."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_S)
    except (ValueError, http.client.HTTPException):
        return 0
    try:
        connection.request("GET", f"{parts.path.rstrip('/').removesuffix('/v1')}/v1/models")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
