"""The book of receipts: what others signed for this node's requests, checked in the writer's thread, kept for a week.

Hashes and signatures only, of sensitive requests too: no prompt and no answer is in it. Checked a few at a time, oldest
first, so that a busy node gives a small share of one core to it. Not for making receipts (dispatch.clerk).
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshnode.config.trust import TrustSection
from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.keep.store import Writer, connect, reading
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.trust.receipt import RECEIPT_CONTEXT, Expected, Receipt, SignedReceipt, mismatch

logger = log.get("keep")

FILE = "receipts.db"
VERSION = 2
UPGRADES = {1: "ALTER TABLE receipts ADD COLUMN key TEXT NOT NULL DEFAULT ''"}
SCHEMA = """
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, job TEXT NOT NULL, server BLOB NOT NULL, at INTEGER NOT NULL,
    request BLOB NOT NULL, answer BLOB NOT NULL, body BLOB NOT NULL, signature BLOB, verdict TEXT,
    key TEXT NOT NULL DEFAULT '');
CREATE INDEX receipts_by_job ON receipts (job);
CREATE INDEX receipts_by_age ON receipts (at);
CREATE INDEX receipts_unjudged ON receipts (id) WHERE verdict IS NULL
"""

AT_ONCE = 48
"""Checked in one batch, four batches a second: 200 µs each make 4 % of a core."""

SWEEP_S = 60.0
"""Between removals of what is too old."""

GOOD = "good"
BAD = "bad"
MISSING = "no receipt came"
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Kept:
    """A row: `verdict` is GOOD, or what is wrong; None while it was not looked at. `key` is the id of the API key that
    asked, "" for none: this node's own note, of which nobody else hears."""

    id: int
    job: str
    server: NodeId
    at: int
    body: bytes
    signature: bytes | None
    verdict: str | None
    key: str = ""

    @property
    def signed(self) -> SignedReceipt | None:
        """The receipt, where there is one to read."""
        return SignedReceipt(self.body, self.signature) if self.signature is not None else None


class Receipts:
    """The book of one node. `counts`: GOOD, BAD and MISSING of this run."""

    def __init__(self, folder: Path, section: TrustSection, me: NodeId, sign: Callable[[bytes, bytes], bytes]) -> None:
        self._me = me
        self._sign = sign
        self._section = section
        self._swept = float("-inf")
        self.counts: Counter[str] = Counter()
        self.writer = Writer(lambda: connect(folder / FILE, SCHEMA, VERSION, UPGRADES), self._tidy)
        self.run = self.writer.run

    def own(self, receipt: Receipt, key: str = "") -> None:
        """This node served itself, for whoever had this API key; signed in the thread."""

        def add(database: sqlite3.Connection) -> None:
            # Names that no codec takes, such as lone surrogates, make no receipt.
            try:
                body = codec.encode(receipt)
            except DecodeError:
                return
            known = (self._me, receipt.at, receipt.request, receipt.answer)
            _insert(database, receipt.job, *known, body, key)

        self.writer.put(add)

    def came(self, trailer: str, expected: Expected, key: str = "") -> None:
        """Another node answered whoever had this API key, with this for a receipt; checked in the thread."""
        at = int(time.time())

        def add(database: sqlite3.Connection) -> None:
            known = (expected.server, at, expected.request, expected.answer)
            _insert(database, expected.job, *known, trailer.encode(errors="replace")[:4096], key)

        self.writer.put(add)

    def status(self) -> dict[str, int]:
        """How many were checked in this run, and how they fared."""
        good, missing = self.counts[GOOD], self.counts[MISSING]
        return {"good": good, "mismatched": self.counts[BAD], "missing": missing, "dropped": self.writer.dropped}

    def _tidy(self, database: sqlite3.Connection) -> bool:
        now = time.time()
        if not 0 <= now - self._swept < SWEEP_S:
            self._swept = now
            _sweep(database, int(now - self._section.receipts_s), self._section.receipts_kept)
        rows = database.execute(
            "SELECT id, job, server, request, answer, body FROM receipts WHERE verdict IS NULL ORDER BY id LIMIT ?",
            (AT_ONCE,),
        ).fetchall()
        for row, job, server, request, answer, body in rows:
            signed, verdict = self._judged(body, Expected(job, self._me, NodeId(server), request, answer))
            # A verdict may name whom the receipt names, which is anybody.
            self.counts[verdict if verdict in (GOOD, MISSING) else BAD] += 1
            if verdict not in (GOOD, MISSING):
                # The server says otherwise than what came from it: worth a person's look.
                logger.warning("a receipt does not hold", job=job, server=NodeId(server).short, reason=verdict)
            fields = (signed.body, signed.signature) if signed is not None else (body, None)
            database.execute(
                "UPDATE receipts SET body = ?, signature = ?, verdict = ? WHERE id = ?", (*fields, verdict, row)
            )
        return len(rows) == AT_ONCE

    def _judged(self, body: bytes, expected: Expected) -> tuple[SignedReceipt | None, str]:
        if expected.server == self._me:
            return SignedReceipt(body, self._sign(RECEIPT_CONTEXT, body)), GOOD
        if not body:
            return None, MISSING
        try:
            signed = SignedReceipt.of_trailer(body.decode(errors="replace"))
            other = mismatch(signed.check(), expected)
        except DecodeError:
            return None, UNREADABLE
        except EvidenceRefused as error:
            return signed, str(error)
        return signed, f"it is for another {other}" if other else GOOD


def newest(folder: Path, limit: int) -> list[Kept]:
    """The last receipts kept in a home, the newest first. Raises SecretFileError."""
    return _read(folder, "ORDER BY id DESC LIMIT ?", (limit,))


def of_request(folder: Path, request_id: str) -> list[Kept]:
    """Those of one request: its id as clients see it, a job's id, or a row's number. Raises SecretFileError."""
    start = f"{request_id}."
    # What follows "." in order is "/": a range serves the index, where LIKE would not.
    where = "WHERE job = ? OR (job >= ? AND job < ?) OR CAST(id AS TEXT) = ? ORDER BY id"
    return _read(folder, where, (request_id, start, f"{request_id}/", request_id))


def _read(folder: Path, clause: str, values: tuple[object, ...]) -> list[Kept]:
    database = reading(folder / FILE, VERSION)
    if database is None:
        return []
    try:
        query = f"SELECT id, job, server, at, body, signature, verdict, key FROM receipts {clause}"  # noqa: S608 - constants
        rows = database.execute(query, values).fetchall()
    finally:
        database.close()
    return [Kept(row[0], row[1], NodeId(row[2]), *row[3:]) for row in rows]


def _insert(
    database: sqlite3.Connection, job: str, server: bytes, at: int, request: bytes, answer: bytes, body: bytes, key: str
) -> None:
    database.execute(
        "INSERT INTO receipts (job, server, at, request, answer, body, key) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job, bytes(server), at, request, answer, body, key),
    )


def _sweep(database: sqlite3.Connection, oldest: int, most: int) -> None:
    database.execute("DELETE FROM receipts WHERE at < ?", (oldest,))
    database.execute(
        "DELETE FROM receipts WHERE id <= (SELECT id FROM receipts ORDER BY id DESC LIMIT 1 OFFSET ?)", (most,)
    )
