"""`compute keys` against a file."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from compute_cli.main import app
from compute_common.access.api_keys import Scope
from compute_common.access.keyring import KeyRing


def keys(*arguments: str, code: int = 0) -> Any:
    """What `compute keys … --json` answers."""
    result = CliRunner().invoke(app, ["keys", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr


def ring() -> KeyRing:
    return KeyRing(Path(os.environ["COMPUTE_HOME"]) / "api-keys.json", None)


def test_a_key_is_shown_once() -> None:
    made = keys("add", "grafana", "--scope", "write", "--for", "90d", "--rate", "5")
    found = ring().find(made["token"])
    assert found is not None
    assert (found.name, found.scope, found.requests_per_s) == ("grafana", Scope.WRITE, 5)
    listed = keys("list")
    assert [key["key_id"] for key in listed] == [made["key_id"]]
    assert "token" not in listed[0]
    assert "sha256" not in listed[0]


def test_the_least_scope_is_the_default() -> None:
    assert keys("add", "ann")["scope"] == "read"


def test_a_revoked_key_is_refused() -> None:
    made, other = keys("add", "ann"), keys("add", "ben")
    keys("revoke", "ann")
    assert ring().find(made["token"]) is None
    assert ring().find(other["token"]) is not None
    assert "no key is called" in keys("revoke", "ann", code=1)


def test_rotation_leaves_the_old_one_for_a_while() -> None:
    old = keys("add", "ann", "--scope", "admin")
    new = keys("rotate", "ann", "--grace", "1h")
    both = ring()
    first, second = both.find(old["token"]), both.find(new["token"])
    assert first is not None
    assert second is not None
    assert first.expires_at is not None
    assert (second.scope, second.expires_at) == (Scope.ADMIN, None)
    assert "several keys are called" in keys("rotate", "ann", code=1)
    keys("revoke", old["key_id"])
    assert ring().find(old["token"]) is None


def test_a_token_can_be_kept_for_this_host() -> None:
    made = keys("add", "cli", "--use")
    kept = Path(os.environ["COMPUTE_HOME"]) / "api-key"
    assert kept.read_text().strip() == made["token"]
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "../x", "a\nb", "x" * 200, "\x1b[31mred"])
def test_names_are_plain(name: str) -> None:
    assert "a name is" in keys("add", name, code=1)


def test_the_environments_key_is_beside_them() -> None:
    made = keys("add", "ann")
    both = KeyRing(Path(os.environ["COMPUTE_HOME"]) / "api-keys.json", SecretStr("of the environment"))
    assert both.find(made["token"]) is not None
    assert both.find("of the environment") is not None


def test_the_first_key_shuts_the_door_and_says_so() -> None:
    first = CliRunner().invoke(app, ["keys", "add", "ann"])
    assert "every caller needs a key" in first.stderr
    assert "every caller" not in CliRunner().invoke(app, ["keys", "add", "ben"]).stderr


def test_no_key_left_is_a_shut_door() -> None:
    assert "makes one" in CliRunner().invoke(app, ["keys", "list"]).stdout
    keys("add", "ann", "--use")
    keys("revoke", "ann")
    assert "nobody is let in" in CliRunner().invoke(app, ["keys", "list"]).stdout
