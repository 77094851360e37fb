"""`attest key`, `sign` and `keep`: what an operator says of a node, from the operator's hand into the node's home.

Not for judging statements (trust.attestation) nor for showing them to others (mesh.vouching).
"""

from __future__ import annotations

import base64
import binascii
import time
from pathlib import Path

from meshnode.cli import place, say
from meshnode.errors import DecodeError
from meshnode.keep.evidence import load_key, save_statement
from meshnode.keep.evidence import make_key as make
from meshnode.keep.home import Home
from meshnode.model.ids import NodeId
from meshnode.trust import SignedStatement, Statement

DAY_S = 86_400

PREFIX = "attest1-"
"""So that nobody takes the line for an invite."""


def make_key(file: Path, as_json: bool) -> None:
    """A new key. Raises SecretFileError where there is a file already."""
    public = NodeId(make(file).public).text
    if as_json:
        return say.write_json({"file": str(file), "operator": public})
    print(f"{file}: keep it safe, whoever has it attests nodes")
    print(f'nodes that have this in their config believe it: [trust] operators = ["{public}"]')
    return None


def sign(node: str, key_file: Path, text: str, days: int, as_json: bool) -> None:
    """A statement, signed. Raises SecretFileError, DecodeError."""
    key, about, now = load_key(key_file), NodeId.parse(node), int(time.time())
    statement = Statement(bytes(about), text, now, now + days * DAY_S)
    line = PREFIX + base64.urlsafe_b64encode(SignedStatement.sign(statement, key.public, key.sign).pack()).decode()
    if as_json:
        return say.write_json({"node": about.text, "statement": line, "until": statement.not_after})
    print(line)
    return None


def keep(home: place.Place, line: str, as_json: bool) -> None:
    """Check it and put it into the home; a node that runs shows it within half a minute. Raises EvidenceRefused,
    DecodeError, SecretFileError."""
    signed, opened = _read(line), Home(home.path)
    said = signed.check(opened.node_key().id, int(time.time()))
    save_statement(home.path, signed)
    operator = NodeId(signed.operator).text
    if as_json:
        return say.write_json({"operator": operator, "says": said.text, "until": said.not_after})
    until = time.strftime("%Y-%m-%d", time.gmtime(said.not_after))
    print(say.clean(f"kept: {operator} attests this node until {until}"))
    return None


def _read(line: str) -> SignedStatement:
    text = line.strip()
    try:
        if not text.startswith(PREFIX):
            raise binascii.Error("not a statement")
        data = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(
            "this is no statement: `meshnode attest sign` prints one line that begins attest1-"
        ) from error
    return SignedStatement.unpack(data)
