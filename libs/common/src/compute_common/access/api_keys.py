"""API keys: 256 random bits told once, kept as a hash, with a scope and an end."""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from compute_common.ids import Identifier
from compute_common.times import UtcTime

MAX_KEYS = 1000
SECRET_BYTES = 32
_TOKEN = re.compile(r"ck_(k-[0-9a-f]{16})_[A-Za-z0-9_-]{43}\Z")
_NOBODY = "0" * 64  # compared with where no key has the id, so that both take as long


class Scope(StrEnum):
    """Each one includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Scope).index(self)

    def covers(self, needed: "Scope") -> bool:
        return self.rank >= needed.rank


class ApiKey(BaseModel):
    """What is kept of a key: never the token itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: Identifier
    name: Annotated[str, Field(max_length=128)] = ""
    scope: Scope
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: UtcTime
    expires_at: UtcTime | None = None
    requests_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None

    def valid_at(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


class KeyDocument(BaseModel):
    """The key file."""

    v: int = Field(1, ge=1, le=1)
    keys: list[ApiKey] = Field(default_factory=list, max_length=MAX_KEYS)


def digest(token: str) -> str:
    """SHA-256 of a token: enough for random ones, which nobody can guess however fast the hash is."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> tuple[str, str]:
    """(key id, token): `ck_<id>_<43 characters>`; the id finds the key, the rest proves it."""
    key_id = f"k-{secrets.token_hex(8)}"
    return key_id, f"ck_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def key_of(token: str, keys: dict[str, ApiKey], now: datetime) -> ApiKey | None:
    """The valid key that `token` belongs to; compares in constant time."""
    found = _TOKEN.match(token)
    key = keys.get(found[1]) if found else None
    same = hmac.compare_digest(digest(token), key.sha256 if key else _NOBODY)
    return key if key is not None and same and key.valid_at(now) else None
