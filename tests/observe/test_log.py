"""Log lines for people and for programs."""

from __future__ import annotations

import io
import json

import pytest

from meshnode.observe import log


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    log.configure("json", "info", out)
    logger = log.get("mesh")
    logger.info("linked", peer="nq4f-7kta")
    logger.debug("not shown")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["room"], line["peer"], line["level"]) for line in lines] == [
        ("linked", "mesh", "nq4f-7kta", "info")
    ]


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_is_the_least_that_is_written(level: str, shown: int) -> None:
    out = io.StringIO()
    log.configure("text", level, out)
    logger = log.get("net")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("said")
    assert len(out.getvalue().splitlines()) == shown


def test_an_exception_is_shown_without_the_values_of_its_frames() -> None:
    out = io.StringIO()
    log.configure("text", "info", out)
    secret = "canary-prompt"
    try:
        raise ValueError(len(secret))
    except ValueError:
        log.get("net").exception("it crashed")
    assert "ValueError" in out.getvalue()
    assert secret not in out.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_crash_is_logged_by_its_place_and_never_by_its_text(form: str) -> None:
    out = io.StringIO()
    log.configure(form, stream=out)
    try:
        try:
            raise ExceptionGroup("", [ValueError("a canary sang")])
        except ExceptionGroup as error:
            group = error
        log.crash(log.get("net"), "a link crashed", group, peer="nq4f-7kta")
    finally:
        log.configure()
    assert "ValueError" in out.getvalue() and "a link crashed" in out.getvalue()
    assert "canary" not in out.getvalue()
