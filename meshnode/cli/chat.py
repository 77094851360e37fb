"""`run MODEL [PROMPT]`: an answer streamed to standard output, or a conversation when people are at the terminal.

Speaks to the node's `/v1/chat/completions` as any other client would. Not for choosing where it runs (dispatch).
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from meshnode.cli import say
from meshnode.cli.daemon import Daemon, refusal
from meshnode.errors import BadRequest, DecodeError, LinkClosed, MeshnodeError

COMPLETIONS = "/v1/chat/completions"
_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some characters of an answer; `thought` when they are the model's reasoning and not its answer."""

    text: str
    thought: bool = False


def run(daemon: Daemon, model: str, prompt: str | None) -> None:
    """Answer one prompt, from the command line or from a pipe, or converse. Raises as Daemon does."""
    if prompt is None and sys.stdin.isatty():
        return converse(daemon, model)
    if prompt is None or prompt == "-":
        prompt = sys.stdin.read()
    if not prompt.strip():
        raise BadRequest(f"there is no prompt; give one: {say.command('run', model, 'hello')}")
    show(answer(daemon, model, [{"role": "user", "content": prompt}]))
    return None


def converse(daemon: Daemon, model: str) -> None:
    """Read a line, stream its answer, remember both; until end of input. Ctrl-C stops an answer, then leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - its presence gives input() history and editing
    print(f"{model} · Ctrl-D leaves, Ctrl-C stops an answer")
    messages: list[dict[str, str]] = []
    while True:
        try:
            asked = input("> ")
        except EOFError:
            print()
            return
        if not asked.strip():
            continue
        messages.append({"role": "user", "content": asked})
        pieces: list[str] = []
        try:
            show(_kept(answer(daemon, model, messages), pieces))
        except KeyboardInterrupt:
            pass
        except MeshnodeError as error:
            say.write_error(error, as_json=False)
        if pieces:
            messages.append({"role": "assistant", "content": "".join(pieces)})
        else:
            messages.pop()


def answer(daemon: Daemon, model: str, messages: list[dict[str, str]]) -> Iterator[Piece]:
    """The pieces of one streamed answer. Raises the node's error, before the first piece or in the stream."""
    body = {"model": model, "messages": messages, "stream": True}
    with daemon.streamed(COMPLETIONS, body) as lines:
        for event in _events(lines):
            if "error" in event:
                raise refusal(json.dumps(event).encode())
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                thought = delta.get("reasoning_content") or delta.get("reasoning")
                if thought:
                    yield Piece(str(thought), thought=True)
                if delta.get("content"):
                    yield Piece(str(delta["content"]))


def show(pieces: Iterable[Piece]) -> None:
    """Write an answer as it comes. Reasoning is for people only: dim on a terminal, else left out."""
    people = sys.stdout.isatty()
    thinking, last = False, ""
    try:
        for piece in pieces:
            if piece.thought and not people:
                continue
            if piece.thought != thinking:
                sys.stdout.write(_DIM if piece.thought else f"{_PLAIN}\n")
                thinking = piece.thought
            last = say.clean(piece.text, keep="\n\t") if people else piece.text
            sys.stdout.write(last)
            sys.stdout.flush()
    finally:
        sys.stdout.write((_PLAIN if thinking else "") + ("\n" if last and not last.endswith("\n") else ""))
        sys.stdout.flush()


def _kept(pieces: Iterable[Piece], into: list[str]) -> Iterator[Piece]:
    for piece in pieces:
        if not piece.thought:
            into.append(piece.text)
        yield piece


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Server-sent events of one `data:` line each, as every OpenAI-compatible server writes them."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise DecodeError(f"a piece of the answer is not JSON: {data[:80]!r}") from error
        if isinstance(event, dict):
            yield event
    raise LinkClosed("the answer broke off before its end")
