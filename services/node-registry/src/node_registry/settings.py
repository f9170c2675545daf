"""Settings of the node registry."""

from pydantic import Field, SecretStr, model_validator

from compute_common.settings import env
from compute_common.shell import ServiceSettings


class Settings(ServiceSettings):
    registry_nats_url: SecretStr | None = Field(
        None,
        validation_alias=env("NODE_REGISTRY_NATS_URL"),
        description="Overrides NATS_URL for the registry",
    )
    nats_sys_user: str | None = Field(
        None,
        validation_alias=env("NATS_SYS_USER"),
        description="The NATS system account's user: its events tell at once when a node's process dies",
    )
    nats_sys_password: SecretStr | None = Field(
        None,
        validation_alias=env("NATS_SYS_PASSWORD"),
        description="Its password, in Compose the server's too; change it when NATS listens beyond loopback",
    )
    register_ttl_seconds: float = Field(
        600,
        gt=0,
        validation_alias=env("NODE_REGISTER_TTL_SECONDS"),
        description="How long a node that registered and never beat stays online",
    )
    max_nodes: int = Field(
        20_000,
        ge=1,
        validation_alias=env("NODE_REGISTRY_MAX_NODES"),
        description="Beyond it the longest silent node is forgotten; with all online a new one is refused",
    )
    max_document_bytes: int = Field(
        256 * 1024,
        ge=1024,
        validation_alias=env("NODE_REGISTRY_MAX_DOCUMENT_BYTES"),
        description="A node's document, merged, may be this long as JSON",
    )
    flush_seconds: float = Field(
        1.0,
        gt=0,
        validation_alias=env("NODE_REGISTRY_FLUSH_SECONDS"),
        description="How often changed nodes are written to the store",
    )

    supabase_url: str | None = Field(
        None,
        validation_alias=env("SUPABASE_URL"),
        description="With the key: nodes are remembered in this Supabase project, not in JetStream KV",
    )
    supabase_service_key: SecretStr | None = Field(
        None,
        validation_alias=env("SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
        description="The project's service_role (or secret) key; never logged",
    )
    supabase_timeout_seconds: float = Field(
        10.0,
        gt=0,
        validation_alias=env("SUPABASE_TIMEOUT_SECONDS"),
        description="Longest single request to Supabase",
    )
    supabase_retry_seconds: float = Field(
        15.0,
        gt=0,
        validation_alias=env("SUPABASE_RETRY_SECONDS"),
        description="Longest pause between tries while Supabase is down",
    )

    @model_validator(mode="after")
    def _own_nats_url(self) -> "Settings":
        if self.registry_nats_url is not None:
            self.nats_url = self.registry_nats_url
        return self
