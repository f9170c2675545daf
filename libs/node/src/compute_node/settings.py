"""The settings of the node program, from the contract's environment names."""

from pathlib import Path

from pydantic import Field

from compute_common.access.engine_settings import EngineHostSettings
from compute_common.settings import env


class NodeSettings(EngineHostSettings):
    compute_node_slots: int = Field(
        4, ge=1, le=10_000, validation_alias=env("COMPUTE_NODE_SLOTS"), description="Items taken at a time"
    )
    compute_node_announce: bool = Field(
        False,
        validation_alias=env("COMPUTE_NODE_ANNOUNCE"),
        description="Announce this host and keep it alive: for a host without a resource detector",
    )
    node_heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        validation_alias=env("NODE_HEARTBEAT_SECONDS"),
        description="How often this node says that it is alive",
    )
    compute_node_grace_seconds: float = Field(
        2.0,
        ge=0,
        validation_alias=env("COMPUTE_NODE_GRACE_SECONDS"),
        description="How long SIGTERM waits for running items before it hands them back",
    )
    compute_node_alive_file: Path | None = Field(
        None,
        validation_alias=env("COMPUTE_NODE_ALIVE_FILE"),
        description="Touched every few seconds while NATS is connected, for a container's health check",
    )
