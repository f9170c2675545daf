"""Settings of the resource detector."""

from pathlib import Path

from pydantic import Field

from compute_common.settings import env
from compute_common.shell import ServiceSettings


class Settings(ServiceSettings):
    heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        validation_alias=env("NODE_HEARTBEAT_SECONDS"),
        description="How often this node says that it is alive",
    )
    detect_seconds: float = Field(
        3.0,
        gt=0,
        le=3600,
        validation_alias=env("DETECT_SECONDS"),
        description="How often the hardware is looked at again; a change is announced at once",
    )
    proc_root: Path = Field(
        Path("/proc"), validation_alias=env("COMPUTE_PROC_ROOT"), description="Where /proc is mounted"
    )
    sys_root: Path = Field(
        Path("/sys"), validation_alias=env("COMPUTE_SYS_ROOT"), description="Where /sys is mounted"
    )
    node_hostname: str = Field(
        "", validation_alias=env("NODE_HOSTNAME"), description="Announced instead of the host name"
    )
    node_labels: str = Field(
        "", validation_alias=env("NODE_LABELS"), description="Labels of this node: `key=value,key=value`"
    )
