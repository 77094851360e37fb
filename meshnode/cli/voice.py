"""What `up` tells its terminal while a node starts, runs and stops: lines for people, or one JSON object a line.

Two classes with the same methods; `up` has one of them and never asks which. Not for log lines (observe.log), which
in JSON share standard output with these and in text go to standard error.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from meshnode.cli import say, words
from meshnode.cli.report import EngineReport, MeshReport, ModelReport, Report


class Voice(Protocol):
    """Called in this order: `ready` or `already`, `engine` as states change, `settled`, then what there is to tell."""

    def already(self, report: Report) -> None:
        """This home's node runs already."""

    def ready(self, report: Report) -> None:
        """API and mesh port listen."""

    def engine(self, engine: EngineReport) -> None:
        """An engine is in another state, or further with its download."""

    def settled(self, report: Report) -> None:
        """The engines that are there are known."""

    def met(self, report: Report) -> None:
        """There was no model when the engines had settled; now there is."""

    def asking(self, model: ModelReport, question: str) -> None:
        """The first question goes to a model; its answer follows."""

    def answered(self, text: str) -> None:
        """The answer is complete; `text` is empty where it has been shown already."""

    def stopping(self, grace_s: float) -> None:
        """A stop was asked for; answers in flight may take `grace_s` seconds."""


class Text:
    """For people. `home` is named in the suggested commands when it is not the usual one."""

    def __init__(self, out: say.Steady, home: Path | None) -> None:
        self._out = out
        self._home = home
        self._drawn = 0
        self._last = ""
        self._serves = True

    def already(self, report: Report) -> None:
        self._serves = False
        self._line(words.headline(report))
        self._line(words.line("api", f"{report.api}/v1   this home's node runs already; nothing was started"))

    def ready(self, report: Report) -> None:
        self._line(words.headline(report))
        self._line(words.line("gpu", words.machine(report.hardware)))
        self._line(words.line("api", f"{report.api}/v1   (OpenAI)    key: not needed on loopback"))
        if report.mesh.address is None:
            # Nobody could follow an invite of its.
            self._line(words.line("mesh", "none: this node only dials out"))
        else:
            self._line(words.line("mesh", f"{report.mesh.address}{self._way_in(report.mesh)}"))
        self._line(words.line("trust", words.trust(report.mesh, time.time())))

    def engine(self, engine: EngineReport) -> None:
        if engine.state != "loading":
            # What is ready or down is told once all are known: `settled`.
            return
        text = words.line("engines", words.engine(engine))
        if self._out.isatty() and engine.progress is not None:
            what = f"{engine.name} {engine.detail or engine.state}, {words.size(engine.progress.total_bytes)}"
            text = words.line("engines", f"{what} {words.bar(engine.progress.share)}")
            self._redraw(text)
        elif words.tenth(engine) != self._last:
            # Without a terminal a line for every tenth, not for every percent.
            self._last = words.tenth(engine)
            self._line(text)

    def settled(self, report: Report) -> None:
        self._line(words.line("engines", words.engines(report.engines)))
        if report.models:
            self._try(report)
        else:
            self._line(words.line("models", "none yet: those of a mesh are there once it is reached"))
            self._line(words.line("try", f"{self._command('join', 'TOKEN')}    with an invite to a mesh of yours"))

    def met(self, report: Report) -> None:
        names = words.listed([model.name for model in report.models], most=3)
        self._line(words.line("models", f"{names}    in a mesh of {report.mesh.nodes} nodes"))
        self._try(report)

    def asking(self, model: ModelReport, question: str) -> None:
        self._line(f"\n {model.name} is asked: {question}\n")

    def answered(self, text: str) -> None:
        if text:
            self._line(text)
        if self._serves:
            self._line("\n" + words.line("serving", "until Ctrl-C; in another terminal, type the line after `try`"))

    def stopping(self, grace_s: float) -> None:
        self._line(f" stopping: answers in flight have {grace_s:.0f} s; a second Ctrl-C ends them")

    def clear(self) -> None:
        """Take away what is half drawn: another line follows."""
        if self._drawn:
            self._redraw("")

    def _way_in(self, mesh: MeshReport) -> str:
        if mesh.trust == "psk-tofu":
            return f"    add a machine: {self._command('mesh', 'secret')}"
        return f"    add a machine: {self._command('invite')}" if mesh.may_invite else ""

    def _try(self, report: Report) -> None:
        self._line(words.line("try", self._command("run", words.first_model(report.models).name, "hello")))

    def _command(self, *parts: str) -> str:
        return say.command(*parts, home=self._home)

    def _line(self, text: str) -> None:
        self._redraw("")
        self._out.write(say.clean(text) + "\n")
        self._out.flush()

    def _redraw(self, text: str) -> None:
        """Put `text` over what was drawn last, and stay on its line."""
        if self._drawn or text:
            self._out.write(f"\r{say.clean(text).ljust(self._drawn)}" + ("" if text else "\r"))
            self._out.flush()
        self._drawn = len(text)


class Lines:
    """For programs: every line is one JSON object with an `event`."""

    def __init__(self, out: say.Steady) -> None:
        self._out = out

    def already(self, report: Report) -> None:
        self._write("running", **self._where(report))

    def ready(self, report: Report) -> None:
        self._write("ready", **self._where(report))

    def engine(self, engine: EngineReport) -> None:
        self._write("engine", **msgspec.to_builtins(engine))

    def settled(self, report: Report) -> None:
        self._write("settled", models=[model.name for model in report.models])

    def met(self, report: Report) -> None:
        self._write("models", models=[model.name for model in report.models])

    def asking(self, model: ModelReport, question: str) -> None:
        self._write("asking", model=model.name, question=question)

    def answered(self, text: str) -> None:
        self._write("answered", text=text)

    def stopping(self, grace_s: float) -> None:
        self._write("stopping", grace_s=grace_s)

    def _where(self, report: Report) -> dict[str, Any]:
        return {
            "api": report.api,
            "mesh": report.mesh.address,
            "node": report.node.id,
            "name": report.node.name,
            "trust": report.mesh.trust,
            "member_until": report.mesh.member_until,
            "revoked": report.mesh.revoked is not None,
        }

    def _write(self, event: str, **facts: Any) -> None:
        self._out.write(json.dumps({"event": event, **facts}) + "\n")
        self._out.flush()
