"""Settings every service shares, from the contract's environment names."""

import os
import socket
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr

from compute_common.bus_auth import NatsSettings
from compute_common.ids import is_identifier, new_id, slug

MAX_BODY_BYTES = 1 << 20


def env(*names: str) -> AliasChoices:
    """The environment names of a setting, canonical first."""
    return AliasChoices(*names)


class CommonSettings(NatsSettings):
    """What every program of the suite reads."""

    node_id: str = Field("", validation_alias=env("NODE_ID"), description="This host's name in the cluster")
    compute_home: Path = Field(
        Path(".compute"), validation_alias=env("COMPUTE_HOME"), description="Where all state lives"
    )
    compute_api_key: SecretStr | None = Field(
        None,
        validation_alias=env("COMPUTE_API_KEY"),
        description="When set, REST wants it as a bearer token or X-API-Key",
    )
    log_level: str = Field(
        "INFO", validation_alias=env("LOG_LEVEL"), description="DEBUG, INFO, WARNING or ERROR"
    )
    nats_wait_seconds: float = Field(
        5.0,
        validation_alias=env("NATS_WAIT_SECONDS"),
        description="How long start-up waits before going on without",
    )

    def resolved_node_id(self) -> str:
        """NODE_ID; else the host name; in a container an id made once and kept under COMPUTE_HOME."""
        if self.node_id:
            if not is_identifier(self.node_id):
                raise ValueError("NODE_ID must be 1-128 letters, digits, '.', '_' or '-'")
            return self.node_id
        if in_container():
            return _kept_node_id(self.compute_home)
        return slug(socket.gethostname())


def in_container() -> bool:
    """Whether this process runs in a container, where the host name is a passing thing."""
    return Path("/.dockerenv").exists() or "container" in os.environ


def _kept_node_id(home: Path) -> str:
    """The id in `home`/node_id, made at first start; several programs may ask at once, one wins."""
    path = home / "node_id"
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = home / new_id(".node_id")
        draft.write_text(new_id("node"))
        try:
            os.link(draft, path)  # atomic and exclusive: the first one stays
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    kept = path.read_text().strip()
    if not is_identifier(kept):
        raise ValueError(f"{path} does not hold a node id; delete it or set NODE_ID")
    return kept
