"""Who may reach a service over HTTP, and how."""

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from compute_common.access.key_file import FILE_NAME
from compute_common.access.keyring import KeyRing
from compute_common.settings import CommonSettings, env

_ORIGIN = re.compile(r"https?://[^\s/@?#*,]+\Z")


class RestSettings(CommonSettings):
    """Keys, TLS, browsers, time limits."""

    api_keys_file: Path | None = Field(
        None,
        validation_alias=env("COMPUTE_API_KEYS_FILE"),
        description="Hashed keys, which `compute keys` writes; default $COMPUTE_HOME/api-keys.json",
    )
    key_requests_per_s: float = Field(
        1000,
        ge=0,
        validation_alias=env("COMPUTE_KEY_RATE"),
        description="Requests a second of each key that has no rate of its own, beyond it 429; 0: no limit",
    )
    allow_no_key: bool = Field(
        False,
        validation_alias=env("COMPUTE_ALLOW_NO_KEY"),
        description="1: listen beyond loopback without any key",
    )
    tls_cert: Path | None = Field(
        None, validation_alias=env("COMPUTE_TLS_CERT"), description="Certificate chain (PEM): REST speaks TLS"
    )
    tls_key: Path | None = Field(
        None, validation_alias=env("COMPUTE_TLS_KEY"), description="Its private key (PEM)"
    )
    cors_origins: str = Field(
        "",
        validation_alias=env("COMPUTE_CORS_ORIGINS"),
        description="Origins of pages elsewhere that may call, separated by commas; none by default",
    )
    body_seconds: float = Field(
        30,
        ge=0,
        validation_alias=env("COMPUTE_BODY_SECONDS"),
        description="A request's body that takes longer is 408; 0: no limit",
    )
    answer_seconds: float = Field(
        120,
        ge=0,
        validation_alias=env("COMPUTE_ANSWER_SECONDS"),
        description="An answer that has not begun by then is 504, an engine's excepted; 0: no limit",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _listed(value):
            if not _ORIGIN.match(origin):
                raise ValueError("COMPUTE_CORS_ORIGINS lists origins such as https://console.example, no '*'")
        return value

    @model_validator(mode="after")
    def _both_or_neither(self) -> "RestSettings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("COMPUTE_TLS_CERT and COMPUTE_TLS_KEY go together")
        return self

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(_listed(self.cors_origins))

    def key_ring(self) -> KeyRing:
        """The keys of this host, which follow the file."""
        return KeyRing(self.api_keys_file or self.compute_home / FILE_NAME, self.compute_api_key)


def _listed(text: str) -> list[str]:
    return [part.strip().rstrip("/").lower() for part in text.split(",") if part.strip()]
