"""Logs as events with fields, in text for people or one JSON object a line. Never prompts, answers or credentials.

Not for metrics (metrics.py). Rooms call `get("room")` once, at import; `configure` decides later how lines look.
"""

from __future__ import annotations

import sys
from traceback import extract_tb
from typing import Any, TextIO

# structlog.dev imports rich where it is installed, for tracebacks that are not asked for here: 3 MB in every node.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def get(room: str) -> Any:
    """A logger whose lines say which room speaks. Calls take an event in words and fields."""
    return structlog.get_logger(room=room)


def crash(logger: Any, what: str, error: BaseException, **fields: Any) -> None:
    """Log where a fault of ours arose, not its text: that may hold what a client wrote."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    logger.error(what, error=type(error).__name__, at=place, **fields)


def configure(form: str = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Choose how lines look: `text` for people, `json` for programs. Level is the least that is written."""
    out = stream if stream is not None else sys.stderr
    last: Any
    if form == "json":
        last = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), pad_event_to=0, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if form == "json" else "%H:%M:%S", utc=form == "json"),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
