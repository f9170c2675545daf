"""An invitation: all that another machine needs to join, in one URL-safe line. Pure but for the store."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from compute_common.ids import check_identifier
from compute_common.private_file import write_private
from compute_common.wire_json import parse_object

MARK = "compute-join-1."
LONGEST = 16_384
LATEST = 32_503_680_000  # the year 3000
SCHEMES = ("nats", "tls")


@dataclass(frozen=True)
class Invitation:
    """`ca`: the certificate that signed the server's, as PEM; empty where the system knows it."""

    nats_url: str
    node_id: str
    password: str
    expires_at: float
    ca: str = ""

    def __repr__(self) -> str:
        return f"Invitation({self.nats_url}, {self.node_id})"  # without the password

    @property
    def expires(self) -> datetime:
        return datetime.fromtimestamp(self.expires_at, UTC)

    def line(self) -> str:
        """The one line."""
        fields = {
            "u": self.nats_url,
            "n": self.node_id,
            "p": self.password,
            "e": round(self.expires_at),
            "c": self.ca,
        }
        text = json.dumps({key: value for key, value in fields.items() if value}, separators=(",", ":"))
        return MARK + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_line(line: str) -> Invitation:
    """The invitation in a line; ValueError, without what the line says, for anything else."""
    text = line.strip()
    if not text.startswith(MARK) or len(text) > LONGEST:
        raise ValueError("this is no invitation: `compute invite` on the first machine prints one")
    coded = text.removeprefix(MARK)
    try:
        fields = parse_object(base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True))
        invitation = Invitation(
            nats_url=_address(str(fields["u"])),
            node_id=check_identifier(str(fields["n"])),
            password=_word(fields["p"]),
            expires_at=_instant(fields["e"]),
            ca=str(fields.get("c", "")),
        )
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise ValueError("the invitation is damaged: copy the whole line once more") from None
    return invitation


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname or not parts.port or "@" in parts.netloc:
        raise ValueError("no address of a NATS server")
    return f"{parts.scheme}://{parts.netloc}"


def _instant(value: object) -> float:
    if not isinstance(value, int | float) or not 0 < value < LATEST:
        raise ValueError("no time")
    return float(value)


def _word(value: object) -> str:
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.replace("-", "").replace("_", "").isalnum()
    ):
        raise ValueError("no password")
    return value


# --- what a machine that joined remembers, in its COMPUTE_HOME

_JOINED, _CREDENTIALS, _CERTIFICATE = "join.json", "nats.creds", "nats-ca.pem"


def store(home: Path, invitation: Invitation) -> None:
    """Keep it, for the owner alone."""
    home.mkdir(parents=True, exist_ok=True)
    write_private(home / _CREDENTIALS, f"{invitation.node_id}:{invitation.password}\n")
    if invitation.ca:
        write_private(home / _CERTIFICATE, invitation.ca)
    joined = {"version": 1, "nats_url": invitation.nats_url, "node_id": invitation.node_id}
    write_private(home / _JOINED, json.dumps(joined))


def joined(home: Path) -> Mapping[str, str]:
    """The environment of a machine that joined: where, and as whom; empty for one that did not."""
    path = home / _JOINED
    if not path.exists():
        return {}
    kept = json.loads(path.read_text())
    certificate = home / _CERTIFICATE
    return {
        "NATS_URL": str(kept["nats_url"]),
        "NODE_ID": str(kept["node_id"]),
        "NATS_CREDS": str(home / _CREDENTIALS),
        "NATS_ACCOUNT": "node",
        **({"NATS_CA": str(certificate)} if certificate.exists() else {}),
    }


def forget(home: Path) -> bool:
    """Whether there was something to forget."""
    found = (home / _JOINED).exists()
    for name in (_JOINED, _CREDENTIALS, _CERTIFICATE):
        (home / name).unlink(missing_ok=True)
    return found
