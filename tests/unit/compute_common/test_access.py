"""Keys: hashed, scoped, rotated, counted; and what each route wants."""

import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from compute_common.access.api_keys import ApiKey, Scope, digest, key_of, new_token
from compute_common.access.bucket import Bucket
from compute_common.access.key_file import KeyFileError, change_keys, client_token, read_keys
from compute_common.access.keyring import KeyRing
from compute_common.access.scopes import needed_scope
from compute_common.times import utc_now

NOW = utc_now()


def made(scope: Scope = Scope.READ, **more: object) -> tuple[ApiKey, str]:
    key_id, token = new_token()
    fields = {"key_id": key_id, "scope": scope, "sha256": digest(token), "created_at": NOW, **more}
    return ApiKey.model_validate(fields), token


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_finds_its_key_and_no_other_does() -> None:
    key, token = made()
    keys = {key.key_id: key}
    assert key_of(token, keys, NOW) == key
    assert key_of(token[:-1] + ("A" if token[-1] != "A" else "B"), keys, NOW) is None
    assert key_of(f"{token}\n", keys, NOW) is None
    assert key_of(made()[1], keys, NOW) is None


@given(st.text(max_size=600))
def test_no_text_is_a_key(text: str) -> None:
    key, _token = made()
    assert key_of(text.encode("latin-1", "replace").decode("latin-1"), {key.key_id: key}, NOW) is None


def test_a_key_ends_when_it_says() -> None:
    key, token = made(expires_at=NOW + timedelta(seconds=5))
    assert key_of(token, {key.key_id: key}, NOW + timedelta(seconds=4.9)) == key
    assert key_of(token, {key.key_id: key}, NOW + timedelta(seconds=5)) is None


def test_scopes_include_those_below() -> None:
    assert [[have.covers(need) for need in Scope] for have in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/nodes", "read"),
        ("HEAD", "/api/v1/gpu/0/cordon", "read"),
        ("POST", "/api/v1/nodes/query", "read"),
        ("POST", "/api/v1/vllm/plan", "read"),
        ("POST", "/api/v1/nodes/register", "write"),
        ("POST", "/v1/chat/completions", "write"),
        ("DELETE", "/api/v1/vllm/instances/x", "write"),
        ("BREW", "/api/v1/nodes", "write"),
        ("POST", "/api/v1/nodes/x/drain", "admin"),
        ("POST", "/nodes/x/undrain", "admin"),
        ("DELETE", "/api/v1/nodes/x", "admin"),
        ("POST", "/api/v1/gpu/3/cordon", "admin"),
        ("POST", "/api/v1/gpu/3/cordon/", "admin"),
        ("POST", "/api/v1/gpu/yields", "admin"),
        ("POST", "/api/v1/gpu/yields/end", "admin"),
        ("POST", "/api/v1/vllm/attach", "admin"),
        ("DELETE", "/api/v1/blacklist/x", "admin"),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: str) -> None:
    assert needed_scope(method, path).value == scope


@given(st.floats(0.5, 500), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_a_bucket_never_lets_more_pass_than_its_rate(per_s: float, gaps: list[float]) -> None:
    bucket, now, passed = Bucket.full(per_s, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        passed += wait == 0
        if wait:
            assert Bucket(bucket.per_s, bucket.burst, bucket.level, bucket.at).take(now + wait + 1e-6) == 0
    assert passed <= bucket.burst + now * per_s + 1e-6


def test_the_file_holds_no_token_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    key, token = made()
    change_keys(path, lambda known: [*known, key])
    assert read_keys(path) == [key]
    assert path.stat().st_mode & 0o777 == 0o600
    secret = token[-43:]
    assert secret not in path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"v":2}',
        '{"keys":[{"key_id":"../x","scope":"read","sha256":"0","created_at":1}]}',
        "\0",
    ],
)
def test_a_spoilt_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api-keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="is not a key file"):
        read_keys(path)


def test_a_file_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    change_keys(path, lambda _known: [made()[0]])
    path.chmod(0o620)
    with pytest.raises(KeyFileError, match="others may write"):
        read_keys(path)


def test_a_running_service_follows_the_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "api-keys.json", Clock()
    ring = KeyRing(path, None, clock)
    assert [ring.required] == [False]
    old, old_token = made(Scope.WRITE)
    change_keys(path, lambda known: [*known, old])
    assert ring.find(old_token) is None  # not looked at again yet
    clock.now += 1
    assert [ring.required] == [True]
    assert ring.find(old_token) == old
    new, new_token_ = made(Scope.WRITE)
    change_keys(path, lambda known: [*known, new])
    clock.now += 1
    assert (ring.find(old_token), ring.find(new_token_)) == (old, new)  # both, while they are changed over
    change_keys(path, lambda known: [key for key in known if key is not old and key.key_id != old.key_id])
    clock.now += 1
    assert (ring.find(old_token), ring.find(new_token_)) == (None, new)


@pytest.mark.parametrize("harm", ["delete", "spoil", "open", "empty"])
def test_what_happens_to_the_file_never_opens_the_door(tmp_path: Path, harm: str) -> None:
    path, clock = tmp_path / "api-keys.json", Clock()
    key, token = made()
    change_keys(path, lambda _known: [key])
    ring = KeyRing(path, None, clock)
    assert ring.find(token) == key
    clock.now += 1
    if harm == "delete":
        path.unlink()
    elif harm == "spoil":
        path.write_text("{")
    elif harm == "open":
        path.chmod(0o666)
    else:
        change_keys(path, lambda _known: [])
    assert ring.required
    assert ring.find(token) is None


def test_the_environments_key_is_an_operators(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing(tmp_path / "none.json", SecretStr("correct horse battery staple"))
    found = ring.find("correct horse battery staple")
    assert found is not None
    assert found.scope is Scope.ADMIN
    assert ring.find("") is None
    assert "battery" not in repr(found)
    with caplog.at_level(logging.WARNING):
        assert not KeyRing(tmp_path / "none.json", SecretStr("")).required


def test_clients_show_the_environments_key_or_the_kept_one(tmp_path: Path) -> None:
    assert client_token({}, tmp_path) is None
    (tmp_path / "api-key").write_text("kept\n")
    assert client_token({}, tmp_path) == "kept"
    assert client_token({"COMPUTE_API_KEY": "given"}, tmp_path) == "given"


def test_the_file_is_json_that_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    change_keys(path, lambda _known: [made(name="grafana")[0]])
    assert json.loads(path.read_text())["keys"][0]["name"] == "grafana"
