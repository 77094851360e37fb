"""`meshnode why`: why a request went where it went, and where its time went; without an id, the last requests.

In short the servers tried and the best of the others, with `--all` every candidate; with `--json` the node's own words,
unchanged. Counterpart: dispatch.journal, which writes what is shown here.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from meshnode.cli import say
from meshnode.cli.daemon import Daemon
from meshnode.errors import BadRequest, DecodeError, NotFound

REQUESTS = "/mesh/requests"

LEFT_OUT = 20
"""Candidates left out that are shown in short: as many as fit on a screen beside the rest."""

PARTLY = (
    "more offer it and were not looked at: of more than 128 servers a decision looks at some by lot and at the best of "
    "the last one, so that choosing takes no longer the larger the mesh is"
)


def why(daemon: Daemon, request: str, everyone: bool, as_json: bool) -> None:
    """What happened to one request; with `everyone` each candidate that was looked at."""
    if not request:
        raise BadRequest("a request's id is missing: `meshnode why` lists the last ones")
    try:
        document = daemon.get(f"{REQUESTS}/{quote(request, safe='')}")
    except NotFound as error:
        raise NotFound(f"this node remembers no request {request!r}: `meshnode why` lists the last ones") from error
    if as_json:
        return say.write_json(document)
    try:
        _show(document, everyone)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError("the node's answer is of another version of meshnode; try --json") from error
    return None


def recent(daemon: Daemon, as_json: bool) -> None:
    """The last requests, the newest first."""
    document = daemon.get(REQUESTS)
    if as_json:
        return say.write_json(document)
    try:
        rows = [_line(one) for one in document["requests"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError("the node's answer is of another version of meshnode; try --json") from error
    say.write_table(("REQUEST", "AT", "MODEL", "NODE", "ATTEMPTS", "SECONDS", "OUTCOME"), rows, "no requests yet")
    return None


def _line(one: dict[str, Any]) -> list[str]:
    at = time.strftime("%H:%M:%S", time.localtime(one["at"]))
    return [
        one["id"], at, one["model"], one["node"] or "-", str(one["attempts"]), f"{one['total_s']:.3f}", _outcome(one),
    ]  # fmt: skip


def _show(told: dict[str, Any], everyone: bool) -> None:
    plan = told["plan"]
    _say(f"{told['id']}  {told['model']}  {_outcome(told)} after {told['total_s']:.6f} s")
    key = f" with key {told['key']}" if told.get("key") else ""
    asker = f"; asked by {told['owner']}{key}" if told.get("owner") else ""
    _say(f"label {told['label']}{asker}; {plan['reason'] or 'nothing was planned'}")
    if told["cache"]:
        _say(f"{told['cache']}: shares the answer of {told['shares']}")
    if "refusal" in plan:
        _say(f"refused: {plan['refusal']['code']}: {plan['refusal']['message']}")
    _candidates(plan, everyone)
    _left_out(plan, everyone)
    print()
    rows = [
        [str(one["number"]), one["name"], one["why"], _s(one["began_s"]), _s(one["took_s"]), one["outcome"]]
        for one in told["attempts"]
    ]
    say.write_table(("#", "ASKED", "WHY", "AT", "TOOK", "OUTCOME"), rows, "nobody was asked")
    print()
    rows = [
        [_s(step["at_s"]), _s(step["for_s"]), _event(step), step["node"] or "", step["detail"] or ""]
        for step in told["timeline"]
    ]
    say.write_table(("AT", "FOR", "EVENT", "NODE", ""), rows, "")
    total_s = sum(step["for_s"] for step in told["timeline"])
    queued = f"; waited {told['queue_ms']} ms for a slot" if told["queue_ms"] is not None else ""
    _say(f"in all {total_s:.6f} s, {told['chunks']} chunks{queued}")


def _outcome(told: dict[str, Any]) -> str:
    place = told.get("place")
    return f"{told['outcome']}, queued at place {place}" if place else str(told["outcome"])


def _candidates(plan: dict[str, Any], everyone: bool) -> None:
    further = plan.get("further", [])
    shown = [*plan["attempts"], *plan.get("others", []), *(further if everyone else [])]
    rows = []
    for one in shown:
        terms = ", ".join(f"{name.removesuffix('_s')} {value:g}" for name, value in one["terms"].items())
        way = " > ".join(one["path"]) if "path" in one else _links(one["hops"])
        rows.append([one["name"], way, f"{one['score']:g}", f"{one['predicted_s']:g} s", terms])
    print()
    say.write_table(("CANDIDATE", "PATH", "SCORE", "PREDICTED", "TERMS"), rows, "no candidates")
    if (more := plan.get("eligible", 0) - len(shown)) > 0:
        where = "--all shows them" if further else "their terms are kept of the newest requests only"
        _say(f"and {more} more that may serve, with higher scores ({where})")
    if unseen := plan.get("not_looked_at", 0):
        _say(f"{unseen} {PARTLY}")


def _left_out(plan: dict[str, Any], everyone: bool) -> None:
    shown = plan["excluded"] if everyone else plan["excluded"][:LEFT_OUT]
    for one in shown:
        _say(f"not {one['name']}: it {one['text']} ({one['code']})")
    if more := len(plan["excluded"]) - len(shown):
        _say(f"and {more + plan['not_listed']} more that may not serve (--all shows them)")
    elif plan["not_listed"]:
        _say(f"and {plan['not_listed']} more that may not serve (they are kept of the newest requests only)")


def _links(hops: int) -> str:
    return f"{hops} link{'s' if hops != 1 else ''} away" if hops else "here"


def _event(step: dict[str, Any]) -> str:
    return f"{step['event']} #{step['attempt']}" if step["attempt"] else str(step["event"])


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _say(text: str) -> None:
    print(say.clean(text, keep=""))
