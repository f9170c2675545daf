"""API keys for servers that want one: each is for one base URL, and for nothing else. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

MAX_KEY = 4096
Base = tuple[str, str, int, str]  # scheme, host, port, path


def parse(text: str) -> Mapping[Base, str]:
    """`URL=key`, several separated by commas; a ValueError says which entry, and quotes nothing of it."""
    keys: dict[Base, str] = {}
    for number, entry in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        url, _, key = entry.partition("=")
        base = _base(url.strip())
        if base is None:
            raise ValueError(f"entry {number} must be URL=key with a plain URL such as https://host/v1")
        if not _sendable(key.strip()):
            raise ValueError(f"entry {number} needs a key of printable ASCII without spaces")
        if base in keys:
            raise ValueError(f"entry {number} names a URL that another entry names too")
        keys[base] = key.strip()
    return keys


def named_for(keys: Mapping[Base, str], base_url: str) -> str | None:
    """The key named for just this scheme, host, port and path; `/v1` at the end makes no difference."""
    base = _base(base_url)
    return None if base is None else keys.get(base)


def _base(url: str) -> Base | None:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if "@" in parts.netloc or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/").removesuffix("/v1")


def _sendable(key: str) -> bool:
    return 0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable() and " " not in key
