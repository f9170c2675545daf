"""Browser sessions: a key shown once buys a cookie that reads, does no more, and ends with its key.

The cookie is `cs_<key id>_<end>_<HMAC>`, keyed with the key's own hash: every replica and every service of
the host can check it, none has to remember it, a restart forgets none, and the key itself is not in it.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime

from compute_common.access.api_keys import ApiKey, Scope

COOKIE = "compute_session"
SESSION_SECONDS = 7 * 86_400
_SESSION = re.compile(r"cs_([A-Za-z0-9][A-Za-z0-9._-]{0,127})_([0-9]{1,11})_([0-9a-f]{64})\Z")


def new_session(key: ApiKey, now: datetime) -> tuple[str, datetime]:
    """(cookie value, its end): a week, or until the key's own end."""
    end = int(now.timestamp()) + SESSION_SECONDS
    if key.expires_at is not None:
        end = min(end, int(key.expires_at.timestamp()))
    return f"cs_{key.key_id}_{end}_{_proof(key, end)}", datetime.fromtimestamp(end, UTC)


def session_key(cookie: str, find: Callable[[str], ApiKey | None], now: datetime) -> ApiKey | None:
    """The key that bought `cookie`, with the scope of a reader; `find` knows the present keys by id."""
    found = _SESSION.match(cookie)
    key = find(found[1]) if found else None
    if found is None or key is None:
        return None
    end = int(found[2])
    same = hmac.compare_digest(found[3], _proof(key, end))
    if not same or now.timestamp() >= end or not key.valid_at(now):
        return None
    return key.model_copy(update={"scope": Scope.READ})


def _proof(key: ApiKey, end: int) -> str:
    return hmac.new(key.sha256.encode(), f"session {key.key_id} {end}".encode(), hashlib.sha256).hexdigest()
