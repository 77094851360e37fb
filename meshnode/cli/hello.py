"""The first question of `up --hello`: shows a newcomer that tokens come out of the endpoint.

It is asked by a second process, `meshnode run`, through the node's own HTTP door: what is shown is what any tool would
get, and leaving is ending that process. Not for the conversation of `run` (chat.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from meshnode.cli import words
from meshnode.cli.report import Report
from meshnode.cli.voice import Voice

QUESTION = "Say hello to someone who has just started you, in one short sentence."


async def ask(seen: Report, voice: Voice, capture: bool, home: Path) -> None:
    """Ask the first model there is, as the user of `home`. The answer goes to standard output, or to `voice` when
    captured."""
    if not seen.models:
        return
    model = words.first_model(seen.models)
    voice.asking(model, QUESTION)
    line = [sys.executable, "-m", "meshnode", "run", "--api", seen.api, model.name, QUESTION]
    environment = {**os.environ, "MESHNODE_HOME": str(home)}
    ended = await trio.run_process(line, capture_stdout=capture, check=False, env=environment)
    if ended.returncode == 0:
        voice.answered((ended.stdout or b"").decode(errors="replace").strip())
