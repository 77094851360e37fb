"""The last requests of this node and why each went where it went: `GET /mesh/requests` and `/mesh/requests/<id>`.

For who may command this node only: who asked when is nobody else's business. Counterparts: dispatch.journal, cli.why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from quart import request
from quart_trio.wrappers import TrioResponse

from meshnode.dialects import http_problem
from meshnode.front.asgi import header_map

if TYPE_CHECKING:
    from quart import Response
    from quart_trio import QuartTrio

    from meshnode.front.doors import Doors

JSON = "application/json"

LISTED = 100
MOST_LISTED = 1000
"""Of `?limit=`, which is as many as the journal keeps."""


def add_requests(app: QuartTrio, doors: Doors) -> None:
    """Put both pages into the application."""

    @app.get("/mesh/requests")
    async def recent() -> Response:
        doors.keys.command(header_map(request.scope["headers"]))
        text = request.args.get("limit", "")
        limit = min(int(text), MOST_LISTED) if text.isascii() and text.isdigit() and len(text) < 6 else LISTED
        return TrioResponse(msgspec.json.encode({"requests": doors.requests(limit)}), 200, content_type=JSON)

    @app.get("/mesh/requests/<request_id>")
    async def one(request_id: str) -> Response:
        doors.keys.command(header_map(request.scope["headers"]))
        found = doors.request(request_id)
        if found is None:
            said = f"This node remembers no request {request_id[:128]!r}: /mesh/requests lists the last ones"
            status, headers, body = http_problem(404, said)
            return TrioResponse(body, status, headers)
        return TrioResponse(msgspec.json.encode(found), 200, content_type=JSON)
