"""`meshnode explain`: where a request for a model would go now, and why; nothing is run.

Counterpart: front.dry_run. Not for requests that ran (why).
"""

from __future__ import annotations

from typing import Any

from meshnode.cli import say
from meshnode.cli.daemon import Daemon

PATH = "/mesh/explain"


def explain(daemon: Daemon, model: str, prompt: str, as_json: bool) -> None:
    """Ask the node and print the plan."""
    found = daemon.post(PATH, {"model": model, "messages": [{"role": "user", "content": prompt}]})
    if as_json:
        return say.write_json(found)
    rows = [_server(place, one) for place, one in enumerate([*found["attempts"], *found["others"]], 1)]
    print(say.clean(found["reason"]))
    outside = found.get("outside") or {"asked": [], "excluded": []}
    nobody = "nobody in the mesh can serve it now" if outside["asked"] else "nobody can serve it now"
    say.write_table(("", "NODE", "MODEL", "PATH", "PREDICTED", "SCORE"), rows, nobody)
    for one in found["excluded"]:
        print(say.clean(f"not {one['name']}: it {one['text']}"))
    for place, name in enumerate(outside["asked"]):
        print(say.clean(f"outside the mesh: {name}" + (" should that fail" if place else " would be asked")))
    for why in outside["excluded"]:
        print(say.clean(f"not outside the mesh: {why}"))
    return None


def _server(place: int, one: dict[str, Any]) -> tuple[str, ...]:
    path = " > ".join(one["path"])
    return (str(place), one["name"], one["model"], path, f"{one['predicted_s']:.2f} s", f"{one['score']:.2f}")
