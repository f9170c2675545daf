"""Settings of the programs that send requests to engines."""

from functools import cached_property

from pydantic import Field, field_validator

from compute_common.access.engine_hosts import PRIVATE, EngineHosts
from compute_common.settings import CommonSettings, env


class EngineHostSettings(CommonSettings):
    """Where engines may be, whatever an instance's record says."""

    engine_hosts: str = Field(
        PRIVATE,
        validation_alias=env("ENGINE_HOSTS"),
        description="Names, addresses and networks of engines that are asked, beside loopback",
    )
    engine_advertise_host: str = Field(
        "", validation_alias=env("ENGINE_ADVERTISE_HOST"), description="Empty = ENGINE_BIND"
    )
    attach_hosts: str = Field(
        "",
        validation_alias=env("ENGINE_ATTACH_HOSTS"),
        description="Hosts beside loopback that POST /attach may name, separated by commas",
    )

    @field_validator("engine_hosts")
    @classmethod
    def _known_forms(cls, value: str) -> str:
        EngineHosts.parse(value)
        return value

    @cached_property
    def reachable_engines(self) -> EngineHosts:
        """What is listed, what may be attached, and where this host's own engines are."""
        own = [part for part in (self.engine_advertise_host, self.attach_hosts) if part]
        return EngineHosts.parse(",".join([self.engine_hosts, *own]))
