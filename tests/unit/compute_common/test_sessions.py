"""Sessions of browsers: bought with a key, readers only, ended with their key."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from compute_common.access.api_keys import ApiKey, Scope, digest, new_token
from compute_common.access.keyring import KeyRing
from compute_common.access.sessions import SESSION_SECONDS, new_session, session_key
from compute_common.times import utc_now

NOW = utc_now()


def key(**fields: object) -> ApiKey:
    key_id, token = new_token()
    made = {"key_id": key_id, "scope": Scope.ADMIN, "sha256": digest(token), "created_at": NOW, **fields}
    return ApiKey.model_validate(made)


def test_an_admins_session_reads_and_no_more() -> None:
    own = key()
    cookie, end = new_session(own, NOW)
    found = session_key(cookie, {own.key_id: own}.get, NOW)
    assert found is not None
    assert (found.key_id, found.scope) == (own.key_id, Scope.READ)
    assert abs((end - NOW).total_seconds() - SESSION_SECONDS) < 1
    assert own.sha256 not in cookie


def test_it_ends_with_its_time_with_its_key_and_with_another_key_of_that_name() -> None:
    own = key(expires_at=NOW + timedelta(hours=1))
    cookie, end = new_session(own, NOW)
    known = {own.key_id: own}
    assert end <= NOW + timedelta(hours=1)
    assert session_key(cookie, known.get, NOW + timedelta(minutes=59)) is not None
    assert session_key(cookie, known.get, NOW + timedelta(hours=1, seconds=1)) is None
    assert session_key(cookie, lambda _key_id: None, NOW) is None
    other = key(key_id=own.key_id)
    assert session_key(cookie, {own.key_id: other}.get, NOW) is None


@given(text=st.text(max_size=200))
def test_no_other_text_is_a_session(text: str) -> None:
    own = key(key_id="environment")
    assert session_key(text, lambda _key_id: own, NOW) is None


@pytest.mark.parametrize("place", [5, 20, 40, -1])
def test_a_changed_character_is_no_session(place: int) -> None:
    own = key()
    cookie, _end = new_session(own, NOW)
    changed = list(cookie)
    changed[place] = "0" if changed[place] != "0" else "1"
    assert session_key("".join(changed), {own.key_id: own}.get, NOW) is None


def test_the_environments_key_buys_one_too(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "none", SecretStr("the key of the environment"))
    own = ring.find("the key of the environment")
    assert own is not None
    found = ring.find_session(new_session(own, utc_now())[0])
    assert found is not None
    assert found.scope is Scope.READ
