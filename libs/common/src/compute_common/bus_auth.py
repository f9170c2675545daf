"""Where NATS is and how to log in; credentials stay out of logs."""

import ssl
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Of nats-py's connect: without all three one that is refused is tried for two minutes
ONE_TRY: dict[str, Any] = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}


class NatsSettings(BaseSettings):
    """`NATS_URL` (several separated by commas), and user, password or a credentials file."""

    model_config = SettingsConfigDict(
        extra="ignore",
        populate_by_name=True,
        protected_namespaces=(),
        env_ignore_empty=True,
        hide_input_in_errors=True,  # what is wrong may stand beside a secret, or be one
    )

    nats_url: SecretStr = Field(
        SecretStr("nats://127.0.0.1:4222"),
        validation_alias=AliasChoices("NATS_URL"),
        description="One or more servers, separated by commas",
    )
    nats_user: str | None = Field(
        None, validation_alias=AliasChoices("NATS_USER"), description="Login, where the server wants one"
    )
    nats_password: SecretStr | None = Field(
        None, validation_alias=AliasChoices("NATS_PASSWORD"), description="Its password; never logged"
    )
    nats_creds: str | None = Field(
        None,
        validation_alias=AliasChoices("NATS_CREDS"),
        description="A file with the login: `user:password`, or NATS' own .creds",
    )
    nats_ca: str | None = Field(
        None,
        validation_alias=AliasChoices("NATS_CA"),
        description="The certificate that signed the server's, where the system does not know it",
    )
    nats_account: Literal["shared", "node"] = Field(
        "shared",
        validation_alias=AliasChoices("NATS_ACCOUNT"),
        description="node: this host has an account of its own, without JetStream (`compute join` sets it)",
    )

    @field_validator("nats_url")
    @classmethod
    def _names_a_server(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip(" ,"):
            raise ValueError("must name a server, such as nats://127.0.0.1:4222")
        return value

    @property
    def server_list(self) -> list[str]:
        """Addresses without credentials (those go in as options, so that no error can print them)."""
        return [_without_userinfo(url) for url in self._urls()]

    @property
    def safe_url(self) -> str:
        return ",".join(self.server_list)

    def _urls(self) -> list[str]:
        return [url.strip() for url in self.nats_url.get_secret_value().split(",") if url.strip()]

    def userinfo(self) -> tuple[str | None, str | None]:
        """User and password, from the variables or from the first address that carries them."""
        if self.nats_user:
            secret = self.nats_password.get_secret_value() if self.nats_password else None
            return self.nats_user, secret
        for url in self._urls():
            parts = urlsplit(url)
            if parts.username:
                return unquote(parts.username), unquote(parts.password) if parts.password else None
        return None, None


def connect_options(settings: NatsSettings) -> dict[str, Any]:
    """nats-py's connect options: credentials file, token, user and password, or none; and the certificate.

    OSError or ValueError for a file that cannot be used, without what is in it.
    """
    options = _login(settings)
    if settings.nats_ca:
        options["tls"] = ssl.create_default_context(cafile=settings.nats_ca)
    return options


def _login(settings: NatsSettings) -> dict[str, Any]:
    if settings.nats_creds:
        return _login_in(Path(settings.nats_creds))
    user, password = settings.userinfo()
    if user and password is None:
        return {"token": user}
    return {"user": user, "password": password} if user else {}


def _login_in(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if "-----BEGIN NATS USER JWT-----" in text:
        return {"user_credentials": str(path)}
    user, colon, password = text.partition(":")
    if not (user and colon and password) or len(text.splitlines()) != 1:
        raise ValueError(f"{path} holds no NATS login: one line `user:password`, or NATS' .creds")
    return {"user": user, "password": password}


def _without_userinfo(url: str) -> str:
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
