"""`meshnode explain`: where a request would go, in the mesh and outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meshnode.cli.app import app
from tests.cli.conftest import FakeDaemon

REFUSED: dict[str, Any] = {"reason": "The model 'large' does not exist.", "attempts": [], "others": [], "excluded": []}


@pytest.mark.parametrize(
    ("outside", "said"),
    [
        (None, ["nobody can serve it now"]),
        (
            {"asked": ["acme", "other"], "excluded": ["third costs more than the request allows"]},
            [
                "nobody in the mesh can serve it now",
                "outside the mesh: acme would be asked",
                "outside the mesh: other should that fail",
                "not outside the mesh: third costs more than the request allows",
            ],
        ),
        (
            {"asked": [], "excluded": ["acme costs more"]},
            ["nobody can serve it now", "not outside the mesh: acme costs more"],
        ),
    ],
)
def test_a_commercial_api_that_would_be_asked_is_told(
    cli: CliRunner, home: Path, daemon: FakeDaemon, outside: Any, said: list[str]
) -> None:
    daemon.answer("POST", "/mesh/explain", {**REFUSED, "outside": outside})
    result = cli.invoke(app, ["explain", "large", "--home", str(home)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [REFUSED["reason"], *said]
