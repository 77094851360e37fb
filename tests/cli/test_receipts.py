"""`receipts list`, `export` and `verify`, without a node."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli.app import app
from meshnode.config.trust import TrustSection
from meshnode.keep.home import Home
from meshnode.keep.receipts import FILE, SCHEMA, VERSION, Receipts
from meshnode.keep.store import connect
from meshnode.trust import Expected
from tests.trust.people import ORIGIN, SERVER, STRANGER, sha, signed

EXPECTED = Expected("job-1.abc", ORIGIN.id, SERVER.id, sha(b"request"), sha(b"answer"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one receipt that holds and one that does not."""
    folder = Home(tmp_path / "home").path
    book = Receipts(folder, TrustSection(), ORIGIN.id, ORIGIN.sign)
    book.came(signed().trailer, EXPECTED)
    other = Expected("job-2.abc", ORIGIN.id, SERVER.id, sha(b"request"), sha(b"answer"))
    book.came(signed(by=STRANGER, job="job-2.abc").trailer, other)
    database = connect(folder / FILE, SCHEMA, VERSION)
    for work in book.writer._pending:
        work(database)
    assert book._tidy(database) is False
    database.close()
    return folder


def run(home: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["receipts", *words, "--home", str(home)])
    return result.exit_code, result.output


def test_receipts_are_listed_with_what_became_of_them(home: Path) -> None:
    code, text = run(home, "list")
    assert code == 0 and "good" in text and "not signed by" in text and "job-1" in text
    listed = json.loads(run(home, "list", "--json")[1])
    assert [row["job"] for row in listed] == ["job-2.abc", "job-1.abc"]
    assert listed[1]["says"]["tokens"] == 42


def test_a_home_without_receipts_says_so(tmp_path: Path) -> None:
    code, text = run(tmp_path, "list")
    assert code == 0 and "no receipts" in text
    assert not list(tmp_path.iterdir())


def test_a_receipt_is_exported_and_verified_by_anybody(home: Path, tmp_path: Path) -> None:
    code, text = run(home, "export", "job-1")
    assert code == 0
    file = tmp_path / "receipt.json"
    file.write_text(text)
    (tmp_path / "asked").write_bytes(b"request")
    (tmp_path / "got").write_bytes(b"answer")
    code, text = run(tmp_path / "elsewhere", "verify", str(file), "--request", str(tmp_path / "asked"),
                     "--answer", str(tmp_path / "got"))  # fmt: skip
    assert code == 0 and SERVER.id.text in text and "the signature is right" in text
    code, text = run(tmp_path / "elsewhere", "verify", str(file), "--answer", str(tmp_path / "asked"))
    assert code == 1 and "another answer" in text


@pytest.mark.parametrize("field", ["body", "signature", "signer"])
def test_an_export_that_was_changed_is_refused(home: Path, tmp_path: Path, field: str) -> None:
    exported = json.loads(run(home, "export", "job-1")[1])
    if field == "signer":
        exported[field] = STRANGER.id.text
    else:
        raw = bytearray(base64.b64decode(exported[field]))
        raw[-1] ^= 1
        exported[field] = base64.b64encode(bytes(raw)).decode()
    (tmp_path / "changed").write_text(json.dumps(exported))
    assert run(home, "verify", str(tmp_path / "changed"))[0] == 1


def test_what_is_wrong_with_a_file_names_it(home: Path, tmp_path: Path) -> None:
    exported = json.loads(run(home, "export", "job-1")[1])
    (tmp_path / "changed").write_text(json.dumps({**exported, "body": "z" + exported["body"][1:]}))
    assert f"what {tmp_path / 'changed'} says was signed" in run(home, "verify", str(tmp_path / "changed"))[1]
    code, text = run(home, "verify", "job-1", "--answer", str(tmp_path / "none"))
    assert (code, text) == (
        1,
        f"meshnode: the answer in {tmp_path / 'none'} cannot be read: No such file or directory\n",
    )


def test_receipts_of_this_home_are_verified_by_their_requests_id(home: Path) -> None:
    assert run(home, "verify", "job-1")[0] == 0
    code, text = run(home, "verify", "job-2")
    assert code == 1 and "not signed by" in text
    assert run(home, "verify", "job-3")[0] == 1


@pytest.mark.parametrize("text", ["", "{}", "[" * 10_000, '{"body":"!","signature":"","signer":""}', "x" * 20_000])
def test_a_file_that_is_no_receipt_is_refused(home: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert run(home, "verify", str(tmp_path / "file"))[0] == 1
