"""`compute keys`: who may call the services of this host."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from compute_cli import views
from compute_cli.commands.owner import seconds_of
from compute_cli.console import AsJson, fail, say, show
from compute_cli.suite import home_of
from compute_common.access.api_keys import MAX_KEYS, ApiKey, Scope, digest, new_token
from compute_common.access.key_file import (
    FILE_NAME,
    TOKEN_NAME,
    KeyFileError,
    change_keys,
    read_keys,
)
from compute_common.private_file import write_private
from compute_common.times import rfc3339, utc_now

keys = typer.Typer(
    help="API keys of this host's services: a change works within a second, without a restart."
)
NOBODY = ", and nobody is let in: `compute keys add NAME --scope admin --use` makes one"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,127}\Z")
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id, or its name where that is one key's.")]
Use = Annotated[
    bool, typer.Option("--use", help="Keep the token for the commands and the node program of this host.")
]


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, e.g. grafana.")],
    scope: Annotated[
        Scope, typer.Option(help="read; write; admin: also cordon, drain, yield, attach.")
    ] = Scope.READ,
    expires: Annotated[str | None, typer.Option("--for", help="Valid so long: 12h, 90d.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second; default COMPUTE_KEY_RATE.")] = None,
    use: Use = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: the only time that it is shown."""
    if not _NAME.match(name):
        raise fail("a name is letters, digits, spaces and ._@-")
    key, token = _new(name, scope, expires, rate)
    first = not _known()
    _change(lambda known: [*known, key])
    if first and not use:
        say("from now on every caller needs a key, the commands of this host too: `--use` keeps one for them")
    _told(key, token, use, as_json)


@keys.command("list")
def list_(as_json: AsJson = False) -> None:
    """The keys, without their tokens."""
    show([_shown(key) for key in _known()], as_json, _table)


@keys.command()
def revoke(key: KeyId, as_json: AsJson = False) -> None:
    """Refuse a key from now on."""
    gone = _one(key)
    _change(lambda known: [each for each in known if each.key_id != gone.key_id])
    show(
        {"revoked": gone.key_id, "name": gone.name},
        as_json,
        lambda _: f"{gone.key_id} ({gone.name}) is revoked",
    )


@keys.command()
def rotate(
    key: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old key still works: 1h, 2d.")] = "1d",
    use: Use = False,
    as_json: AsJson = False,
) -> None:
    """A new key of the same name, scope and rate; the old one works for a while beside it."""
    old = _one(key)
    end = utc_now() + timedelta(seconds=seconds_of(grace))
    end = min(end, old.expires_at) if old.expires_at else end
    new, token = _new(old.name, old.scope, None, old.requests_per_s)
    if old.expires_at:
        new = new.model_copy(update={"expires_at": utc_now() + (old.expires_at - old.created_at)})
    ending = old.model_copy(update={"expires_at": end})
    _change(lambda known: [*(ending if each.key_id == old.key_id else each for each in known), new])
    say(f"the old key works until {rfc3339(end)}")
    _told(new, token, use, as_json)


def _new(name: str, scope: Scope, expires: str | None, rate: float | None) -> tuple[ApiKey, str]:
    if rate is not None and not 0 < rate <= 1e6:
        raise fail("--rate must be above 0 and at most 1000000")
    key_id, token = new_token()
    now = utc_now()
    end = now + timedelta(seconds=seconds_of(expires)) if expires else None
    key = ApiKey(
        key_id=key_id,
        name=name,
        scope=scope,
        sha256=digest(token),
        created_at=now,
        expires_at=end,
        requests_per_s=rate,
    )
    return key, token


def _path() -> Path:
    given = os.environ.get("COMPUTE_API_KEYS_FILE")
    return Path(given) if given else home_of(os.environ) / FILE_NAME


def _known() -> list[ApiKey]:
    try:
        return read_keys(_path()) or []
    except KeyFileError as error:
        raise fail(str(error)) from error


def _change(change: Any) -> None:
    if len(_known()) >= MAX_KEYS:
        raise fail(f"there are {MAX_KEYS} keys: revoke some")
    try:
        change_keys(_path(), change)
    except (OSError, KeyFileError) as error:
        raise fail(f"{_path()} cannot be written: {error}") from error


def _one(text: str) -> ApiKey:
    found = [key for key in _known() if text in (key.key_id, key.name)]
    if len(found) != 1:
        how = "no key is called" if not found else "several keys are called"
        raise fail(f"{how} {text!r}; `compute keys list` shows their ids")
    return found[0]


def _told(key: ApiKey, token: str, use: bool, as_json: bool) -> None:
    if use:
        write_private(home_of(os.environ) / TOKEN_NAME, token + "\n")
    say("keep the token: only its hash is stored, nobody can show it again")
    show({**_shown(key), "token": token}, as_json, lambda _: token)


def _shown(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"sha256"})


def _table(rows: list[dict[str, Any]]) -> object:
    if not rows:
        return "no keys" + (NOBODY if _path().exists() else "; `compute keys add NAME` makes one")
    cells = [
        tuple(row[field] for field in ("key_id", "name", "scope", "created_at", "expires_at")) for row in rows
    ]
    return views.table("", ("key", "name", "scope", "made", "ends"), cells)
