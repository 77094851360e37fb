"""`receipts list`, `export` and `verify`: read from the home's own book, or from an exported file; no node is needed.

Not for the book's writing (keep.receipts) nor for what a receipt is (trust.receipt).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec

from meshnode.cli import place, say
from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.keep.receipts import GOOD, Kept, newest, of_request
from meshnode.model.ids import NodeId
from meshnode.trust.receipt import MAX_RECEIPT_BYTES, Receipt, SignedReceipt

MAX_FILE_BYTES = 16 * 1024


class Exported(msgspec.Struct, frozen=True):
    """An exported receipt: the signed bytes and the signature (base64 in JSON), who signed, and the same in words,
    which nobody has to believe."""

    body: bytes
    signature: bytes
    signer: str
    says: dict[str, Any] = {}
    meshnode: str = "receipt 1"


def listed(home: place.Place, limit: int, as_json: bool) -> None:
    """The last receipts."""
    rows = newest(home.path, limit)
    if as_json:
        return say.write_json([_facts(row) for row in rows])
    columns = ("ID", "WHEN", "REQUEST", "SERVER", "MODEL", "TOKENS", "RECEIPT")
    return say.write_table(columns, [_row(row) for row in rows], "no receipts are kept in this home")


def export(home: place.Place, which: str) -> None:
    """One receipt as JSON, for whoever is to check it."""
    print(msgspec.json.format(msgspec.json.encode(_exported(_one(home, which))), indent=2).decode())


def verify(home: place.Place, which: str, request: Path | None, answer: Path | None, as_json: bool) -> None:
    """Check a file, or receipts of this home. Raises EvidenceRefused when one does not hold."""
    file = Path(which)
    found = [_of_file(file)] if file.is_file() else [_checked(row) for row in _rows(home, which)]
    for said in found:
        _compare("request", said.request, request)
        _compare("answer", said.answer, answer)
    if as_json:
        return say.write_json([_says(said) for said in found])
    for said in found:
        for word, value in _says(said).items():
            print(say.clean(f"{word:<8} {value}", keep=""))
        print("the signature is right" + _bytes_words(request, answer))
    return None


def _bytes_words(request: Path | None, answer: Path | None) -> str:
    named = [word for word, file in (("request", request), ("answer", answer)) if file is not None]
    return f", and it is of this {' and this '.join(named)}" if named else ""


def _compare(word: str, digest: bytes, file: Path | None) -> None:
    if file is None:
        return
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise EvidenceRefused(f"the {word} in {file} cannot be read: {error.strerror}") from error
    if found != digest:
        raise EvidenceRefused(f"the receipt is for another {word} than {file}")


def _of_file(file: Path) -> Receipt:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise DecodeError(f"{file} is no receipt: it has more than {MAX_FILE_BYTES} bytes")
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Exported)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"{file} is no exported receipt: {error}") from error
    if len(found.body) > MAX_RECEIPT_BYTES:
        raise DecodeError(f"{file} is no receipt: its body is too long")
    try:
        said = SignedReceipt(found.body, found.signature).check()
    except DecodeError as error:
        raise DecodeError(f"what {file} says was signed is no receipt, or has been changed: {error}") from error
    if NodeId(said.server).text != found.signer:
        raise EvidenceRefused("the receipt is by another node than the file says")
    return said


def _checked(row: Kept) -> Receipt:
    signed = row.signed
    if signed is None:
        raise EvidenceRefused(f"there is nothing to verify for {row.job}: {row.verdict or 'it was not looked at yet'}")
    said = signed.check()
    if row.verdict != GOOD:
        raise EvidenceRefused(f"the receipt of {row.job} is signed and does not hold here: {row.verdict}")
    return said


def _rows(home: place.Place, which: str) -> list[Kept]:
    rows = of_request(home.path, which)
    if not rows:
        raise EvidenceRefused(f"{which!r} is neither a file nor a request with a receipt in {home.path}")
    return rows


def _one(home: place.Place, which: str) -> Kept:
    return _rows(home, which)[-1]


def _exported(row: Kept) -> Exported:
    said, signed = _checked(row), row.signed
    assert signed is not None
    return Exported(signed.body, signed.signature, NodeId(said.server).text, _says(said))


def _says(said: Receipt) -> dict[str, Any]:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(said.at))
    return {
        "job": said.job,
        "at": when,
        "origin": NodeId(said.origin).text,
        "server": NodeId(said.server).text,
        "model": said.model,
        "weights": said.digest.hex(),
        "quant": said.quant,
        "request": said.request.hex(),
        "answer": said.answer.hex(),
        "tokens": said.tokens,
    }


def _facts(row: Kept) -> dict[str, Any]:
    said = _read(row)
    known = {"id": row.id, "job": row.job, "server": row.server.text, "at": row.at, "verdict": row.verdict}
    return {**known, "key": row.key or None, "says": _says(said) if said is not None else None}


def _read(row: Kept) -> Receipt | None:
    try:
        return row.signed.receipt if row.signed is not None else None
    except DecodeError:
        return None


def _row(row: Kept) -> tuple[str, ...]:
    said = _read(row)
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(row.at))
    request = row.job.rpartition(".")[0] or row.job
    model, tokens = (said.model, str(said.tokens)) if said is not None else ("-", "-")
    return str(row.id), when, request, row.server.short, model, tokens, row.verdict or "not checked yet"
