"""Where NATS wants a login: beyond loopback, unless it is told not to."""

from pathlib import Path

import pytest

from compute_cli import nats_server
from compute_cli.suite import suite_from


@pytest.mark.parametrize(
    ("host", "environ", "wanted"),
    [
        ("127.0.0.1", {}, False),
        ("localhost", {}, False),
        ("::1", {}, False),
        ("0.0.0.0", {}, True),
        ("192.168.1.10", {}, True),
        ("box.lan", {}, True),
        ("192.168.1.10", {"NATS_ALLOW_NO_LOGIN": "1"}, False),
        ("192.168.1.10", {"NATS_ALLOW_NO_LOGIN": "0"}, True),
    ],
)
def test_who_needs_a_login(host: str, environ: dict[str, str], wanted: bool) -> None:
    assert nats_server.wants_login(host, environ) is wanted


def test_the_configuration_says_so_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = nats_server.write_config(tmp_path, 4222, "192.168.1.10", login=True)
    assert "no_auth_user" not in path.read_text()
    assert 'no_auth_user: "compute"' in nats_server.write_config(tmp_path, 4222).read_text()
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir() if each.suffix != ".lock"} == {0o600}


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "nats://127.0.0.1:4222"), ("10.0.0.1", "nats://10.0.0.1:4222")],
)
def test_the_suites_own_programs_reach_it(host: str, url: str) -> None:
    assert suite_from({"NATS_HOST": host}).nats_url == url
