"""The keys a running service accepts: the environment's and the file's, read again when it changes."""

import hmac
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import SecretStr

from compute_common.access.api_keys import ApiKey, Scope, digest, key_of
from compute_common.access.key_file import KeyFileError, read_keys
from compute_common.access.sessions import session_key
from compute_common.times import utc_now

log = structlog.get_logger("keys")

LOOK_SECONDS = 0.5
SHORT_KEY = 16  # characters below which the environment's key is not worth its name
ENVIRONMENT = "environment"
Seen = tuple[int, int, int] | None


class KeyRing:
    """A file that was there once keeps the doors shut: gone or spoilt, it opens nothing."""

    def __init__(
        self, path: Path, environment: SecretStr | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._environment = _environment_key(environment)
        self._keys: dict[str, ApiKey] = {}
        self._seen: Seen = None
        self._looked = float("-inf")
        self._file_required = False

    @property
    def required(self) -> bool:
        """Whether requests must show a key."""
        self._look()
        return self._environment is not None or self._file_required

    def find(self, token: str) -> ApiKey | None:
        """The valid key with this token."""
        self._look()
        own = self._environment
        if own is not None and hmac.compare_digest(digest(token), own.sha256):
            return own
        return key_of(token, self._keys, utc_now())

    def find_session(self, cookie: str) -> ApiKey | None:
        """The valid key that bought this session, as a reader."""
        self._look()
        return session_key(cookie, self._by_id, utc_now())

    def _by_id(self, key_id: str) -> ApiKey | None:
        own = self._environment
        return own if own is not None and key_id == own.key_id else self._keys.get(key_id)

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        seen = _state(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        self._read()

    def _read(self) -> None:
        try:
            keys = read_keys(self._path)
        except KeyFileError as error:
            self._file_required, self._keys = True, {}
            log.error("the key file is not used: no key of it is accepted", reason=str(error))
            return
        self._file_required = self._file_required or keys is not None
        self._keys = {key.key_id: key for key in keys or ()}
        log.info("keys read", count=len(self._keys))


def _environment_key(secret: SecretStr | None) -> ApiKey | None:
    if secret is None or not secret.get_secret_value():
        return None
    token = secret.get_secret_value()
    if len(token) < SHORT_KEY:
        log.warning("COMPUTE_API_KEY is short enough to be guessed", shortest_good=SHORT_KEY)
    return ApiKey(
        key_id=ENVIRONMENT,
        name="COMPUTE_API_KEY",
        scope=Scope.ADMIN,
        sha256=digest(token),
        created_at=utc_now(),
    )


def _state(path: Path) -> Seen:
    try:
        status = os.stat(path)  # noqa: PTH116 - one call, twice a second
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino
