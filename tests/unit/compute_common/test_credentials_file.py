"""NATS_CREDS: one line, NATS' own file, or a reason that does not repeat what is in it."""

import ssl
from pathlib import Path

import pytest

from compute_common.bus_auth import NatsSettings, connect_options


def settings(path: Path, **more: str) -> NatsSettings:
    return NatsSettings.model_validate({"NATS_CREDS": str(path), **more})


def test_one_line_is_a_user_and_a_password(tmp_path: Path) -> None:
    path = tmp_path / "node.creds"
    path.write_text("box.1:se:cret\n")
    assert connect_options(settings(path)) == {"user": "box.1", "password": "se:cret"}
    assert connect_options(settings(path, NATS_USER="other", NATS_PASSWORD="x"))["user"] == "box.1"


def test_nats_own_file_goes_to_the_client_by_name(tmp_path: Path) -> None:
    path = tmp_path / "user.creds"
    path.write_text("-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n")
    assert connect_options(settings(path)) == {"user_credentials": str(path)}


@pytest.mark.parametrize("text", ["", "s3cr3t", ":s3cr3t", "box:", "box:s3cr3t\nNATS_URL=x", "\xff\xfe"])
def test_anything_else_is_refused_without_being_repeated(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.creds"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no NATS login") as caught:
        connect_options(settings(path))
    assert "s3cr3t" not in str(caught.value)


def test_a_file_that_is_not_there_may_come_later(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"later\.creds"):
        connect_options(settings(tmp_path / "later.creds"))


def test_the_authority_must_be_a_certificate(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        connect_options(NatsSettings.model_validate({"NATS_CA": str(path)}))
