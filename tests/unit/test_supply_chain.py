"""The offline checks of `make check` find what they are for."""

import base64
import random
import subprocess
import sys

import pytest
from scripts.secret_scan import findings, tracked
from scripts.supply_chain import ROOT, faults, licence_fault, lock_faults

HASH = "    --hash=sha256:" + "0a" * 32
CHANCE = random.Random(9)  # noqa: S311 - nothing is kept secret by it


def chance(characters: int) -> str:
    """A made-up secret, never written down."""
    return (
        base64.urlsafe_b64encode(CHANCE.randbytes(characters))
        .decode()
        .replace("=", "")
        .replace("-", "x")[:characters]
    )


def test_the_locks_are_hashed_pinned_and_free() -> None:
    assert list(faults()) == []


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("httpx==0.28.1\n", "httpx: no sha256"),
        (f"httpx==0.28.1 \\\n{HASH}\nanyio==4\n", "anyio: no sha256"),
        (f"httpx>=0.28 \\\n{HASH}\n", "not pinned"),
        (f"httpx \\\n{HASH}\n", "not pinned"),
        (f"x @ git+https://example.org/x \\\n{HASH}\n", "not pinned"),
        ("git+https://example.org/x#egg=x\n", "not pinned"),
        ("https://example.org/x.whl\n", "not pinned"),
        ("-e ./libs/common\n", "not pinned"),
        ("--index-url https://example.org\n", "not pinned"),
        ("httpx==0.28.1 \\\n    --hash=md5:00\n", "httpx: no sha256"),
    ],
)
def test_what_a_lock_may_not_hold(lock: str, fault: str) -> None:
    assert any(fault in found for found in lock_faults(lock))


def test_markers_and_extras_are_pins() -> None:
    lock = f"uvicorn[standard]==0.54 ; sys_platform != 'win32' \\\n{HASH} \\\n{HASH}\n    # via x\n"
    assert list(lock_faults(lock)) == []


@pytest.mark.parametrize(
    "said", ["GPL-3.0-only", "AGPL-3.0", "", "Proprietary", "SSPL-1.0", "MIT AND GPL-2.0"]
)
def test_a_licence_that_binds_is_named(said: str) -> None:
    assert licence_fault("x", said) is not None


@pytest.mark.parametrize(
    "said", ["MIT", "Apache-2.0 OR BSD-3-Clause", "Mozilla Public License 2.0 (MPL 2.0)"]
)
def test_a_free_licence_is_none(said: str) -> None:
    assert licence_fault("x", said) is None


def test_no_tracked_file_holds_a_secret() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/secret_scan.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(tracked()) > 100


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN " + "PRIVATE KEY-----",
        "-----BEGIN NATS " + "USER JWT-----",
        "token: hf_" + chance(34).replace("_", "a"),
        "export OPENAI_API_KEY=sk-" + chance(40),
        "AKIA" + "ABCDEFGH12345678",
        "ck_k-0123456789abcdef_" + chance(43),
        f'password = "{chance(32)}"',
        f"SUPABASE_SERVICE_KEY_SECRET: {chance(40)}",
        f'"api_key": "{chance(32)}"',
    ],
    ids=lambda line: line[:12],
)
def test_a_planted_secret_is_found_and_not_shown(line: str) -> None:
    [(number, what)] = findings(f"harmless\n{line}\n")
    assert number == 2
    assert line[-10:] not in what


@pytest.mark.parametrize(
    "line",
    [
        "password = settings.nats_password.get_secret_value()",
        "NATS_SYS_PASSWORD=compute-sys",
        "secret: a-name-of-a-docker-secret-in-a-file",
        f'token = "{chance(40)}"  # not-a-secret',
        "sha256:" + "0a" * 32,
    ],
)
def test_what_is_no_secret_is_not(line: str) -> None:
    assert list(findings(line)) == []
