"""`keys add`, `list`, `revoke` and `forget`: API keys of this machine's node, for tools and people.

A running node is asked over its control routes, and holds to what changed at once; without one the home itself is
changed, since a node that listens to the network does not start before it has a key. Not for what keys mean (access).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from meshnode.cli import place, say
from meshnode.cli.daemon import fields
from meshnode.errors import BadRequest


def add(home: place.Place, wish: Mapping[str, Any], as_json: bool) -> None:
    """Print a new key: alone for a pipe, with what to do with it for people."""
    made = fields(_do(home, "add", wish), "key")
    if as_json:
        return say.write_json(made)
    key = str(made["key"])
    if not sys.stdout.isatty():
        return print(key)
    print(f"API key {made['id']} of {say.clean(str(made['owner']), keep='')}, shown this once and kept nowhere:\n")
    print(f"  {key}\n")
    print("Tools send it as their OpenAI or Anthropic key. From now on this node answers nobody without one;")
    return print(f"`meshnode` commands on this machine need none. To end it: {_command(home, 'revoke', made)}")


def listed(home: place.Place, as_json: bool) -> None:
    """Every key, without what it is made of."""
    told = fields(_do(home, "list", {}), "keys")
    if as_json:
        return say.write_json(told)
    nothing = (
        "no keys, and none is needed: whoever reaches this node's API may use it"
        if not told.get("closed")
        else "no keys, and without one nobody is answered"
    )
    columns = ("KEY", "OWNER", "STATE", "SCOPES", "MODELS", "LABEL", "TIER", "TIME-OUTS", "MADE", "UNTIL")
    return say.write_table(columns, [_row(one) for one in told["keys"]], nothing)


def revoke(home: place.Place, key_id: str, as_json: bool) -> None:
    """Let it open nothing any more."""
    done = fields(_do(home, "revoke", {"key": key_id}), "id")
    if as_json:
        return say.write_json(done)
    print(f"key {done['id']} is revoked: nothing is answered to it any more; what it began goes on to its end")
    return print(f"this node still asks for keys; {_command(home, 'forget', done)} drops what is kept of this one")


def forget(home: place.Place, key_id: str, as_json: bool) -> None:
    """Drop one that is good no more."""
    done = fields(_do(home, "forget", {"key": key_id}), "id")
    if as_json:
        return say.write_json(done)
    print(f"key {done['id']} is forgotten")
    return None if done.get("closed") else print("it was the last: whoever reaches this node's API may use it now")


def _do(home: place.Place, verb: str, asked: Mapping[str, Any]) -> Any:
    daemon = place.running(home)
    return daemon.post(f"/mesh/keys/{verb}", asked) if daemon is not None else _alone(home, verb, asked)


def _alone(home: place.Place, verb: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same on a home whose node does not run: its lock keeps one from starting meanwhile."""
    from meshnode.access import Wish
    from meshnode.front.keyring import made
    from meshnode.keep.api_keys import load_keys, save_keys
    from meshnode.keep.home import Home

    now = time.time()
    with Home(home.path):
        ring = load_keys(home.path)
        match verb:
            case "add":
                try:
                    wish = msgspec.convert(asked, Wish)
                except msgspec.ValidationError as error:
                    raise BadRequest(str(error)) from error
                ring, record, key = made(ring, wish, now)
                told: dict[str, Any] = {"key": key, **record.told(now)}
            case "revoke":
                ring, record = ring.revoked(str(asked["key"]), now)
                told = record.told(now)
            case "forget":
                ring, record = ring.forgotten(str(asked["key"]), now)
                told = {**record.told(now), "closed": len(ring) > 0}
            case _:
                return {"keys": [one.told(now) for one in ring.records], "closed": len(ring) > 0}
        save_keys(home.path, ring)
    return told


def _command(home: place.Place, verb: str, key: Mapping[str, Any]) -> str:
    return say.command("keys", verb, str(key["id"]), home=home.named)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    until = one.get("not_after")
    times = {"all": "timeout_s", "first": "first_token_s", "silence": "silence_s"}
    return (
        str(one.get("id")),
        str(one.get("owner")),
        str(one.get("state")),
        ", ".join(one.get("scopes") or ()),
        ", ".join(one.get("models") or ()) or "all",
        str(one.get("label")),
        str(one.get("priority")),
        ", ".join(f"{word} {one[name]:g} s" for word, name in times.items() if one.get(name)) or "-",
        _day(one.get("made_at")),
        _day(until) if until is not None else "-",
    )


def _day(at: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if isinstance(at, int) else "-"
