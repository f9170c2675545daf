"""What browsers are told, and what pages of other sites may not do with a browser of this host."""

import base64
import hashlib
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Message

from compute_common.problems import Problem

CLOSED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CSP = b"content-security-policy"
# Nobody can register a name that ends so: it means this host or this network.
_HOME = ("localhost", "local", "internal", "lan", "home.arpa", "test")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def harden(message: Message, *, cors: bool = False) -> None:
    """Add the security headers to a response's start; a page's own policy stays."""
    headers: list[tuple[bytes, bytes]] = message["headers"]
    headers.extend(_HEADERS[:-1] if cors else _HEADERS)
    if not any(name == _CSP for name, _ in headers):
        headers.append((_CSP, CLOSED.encode()))


def page_policy(scripts: Iterable[str] = (), styles: Iterable[str] = (), more: str = "") -> str:
    """The policy of a page whose inline scripts and styles are exactly these texts, known beforehand.

    `more` are further directives such as `connect-src 'self'`. Never hand in what came from outside: its
    hash would bless it.
    """
    parts = [CLOSED, "img-src 'self' data:"]
    for directive, texts in (("script-src", scripts), ("style-src", styles)):
        hashes = " ".join(f"'sha256-{_hash(text)}'" for text in texts)
        parts += [f"{directive} {hashes}"] if hashes else []
    return "; ".join([*parts, more] if more else parts)


def cross_site(method: str, host: str, origin: str | None, allowed: frozenset[str]) -> Problem | None:
    """A refusal for a change that a page of another site makes a browser send.

    Without keys, being on this host is the only right there is, and a browser has it, too. `Origin` tells:
    browsers send it with every change, other clients never. A public name that points here (DNS rebinding)
    is another site, whatever its address.
    """
    if origin is None or method in SAFE or origin in allowed:
        return None
    there = urlsplit(origin).netloc.lower() if origin != "null" else ""
    if there and there == host.lower() and _of_this_network(there):
        return None
    return Problem(
        403,
        "cross-site",
        "a page of another site may not do this; name its origin in COMPUTE_CORS_ORIGINS if it should",
    )


def _of_this_network(netloc: str) -> bool:
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(tuple(f".{end}" for end in _HOME))
    return True


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
