"""Which addresses of engines may be asked: other hosts tell them, and the requests are ours.

Loopback, what ENGINE_HOSTS lists (by default private networks) and names without a dot, which only this
network resolves. Never where clouds keep their credentials, whatever is listed. What a name stands for is
judged where the connection is made (`engine_door`): it may change from one question to the next.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: the metadata service of most clouds
        "fe80::/10",
        "224.0.0.0/4",
        "ff00::/8",
        "240.0.0.0/4",
        "100.100.100.200/32",  # Alibaba Cloud's metadata
        "192.0.0.192/32",  # Oracle Cloud's
        "fd00:ec2::/32",  # AWS' over IPv6
        "fd20:ce::254/128",  # Google Cloud's over IPv6
        "64:ff9b::/96",  # IPv4 behind NAT64
        "2002::/16",  # IPv4 inside 6to4
    )
)
_NEVER_NAMED = frozenset({"metadata", "instance-data"})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")  # libc takes these for IPv4 addresses
_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)*/?\Z")
_BLANK = re.compile(r"[\x00-\x20\x7f\\]")  # parsers of addresses disagree about these

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class EngineHosts:
    """`names` in lower case."""

    networks: tuple[Network, ...]
    names: frozenset[str]

    @classmethod
    def parse(cls, listed: str) -> "EngineHosts":
        """From names, addresses and networks, separated by commas. ValueError names what is none."""
        networks: list[Network] = []
        names: set[str] = set()
        for part in (each.strip().lower() for each in listed.split(",")):
            if not part:
                continue
            try:
                networks.append(ipaddress.ip_network(part))
            except ValueError:
                if not all(_LABEL.match(label) for label in part.split(".")):
                    raise ValueError(f"'{part[:80]}' is no name, address or network") from None
                names.add(part)
        return cls(tuple(networks), frozenset(names))

    def also(self, listed: str) -> "EngineHosts":
        """These and what `listed` names, as in `parse`."""
        more = self.parse(listed)
        return EngineHosts(self.networks + more.networks, self.names | more.names)

    def allow(self, url: str | None) -> bool:
        """Whether `url` is a plain http(s) address of a host that may be asked."""
        if not url or _BLANK.search(url):
            return False
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname or "", parts.port
        except ValueError:
            return False
        plain = parts.scheme in ("http", "https") and "@" not in parts.netloc and not parts.query
        if not plain or parts.fragment or not _PATH.match(parts.path) or "%" in host:
            return False
        return self.allow_host(host)

    def allow_host(self, host: str) -> bool:
        """Whether a name or address may be asked; other spellings of an address than its own may not."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self._allow_name(host.lower())
        return self._allow_address(getattr(address, "ipv4_mapped", None) or address)

    def allow_resolved(self, name: str, address: str) -> bool:
        """Whether `name` may be asked at `address`, as it was resolved just now.

        A listed name may be anywhere but where clouds keep their credentials; any other one must be where an
        address itself might have been named.
        """
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        if not self.allow_host(name) or any(found in network for network in _NEVER):
            return False
        return name.lower() in self.names or self._allow_address(found)

    def _allow_name(self, name: str) -> bool:
        if name in _NEVER_NAMED or _NUMBER.match(name.rstrip(".").rpartition(".")[2]):
            return False
        return name in self.names or name == "localhost" or bool(_LABEL.match(name))

    def _allow_address(self, address: Address) -> bool:
        if any(address in network for network in _NEVER):
            return False
        if address.is_loopback or address.is_unspecified:  # the latter connects to this host
            return True
        return any(address in network for network in self.networks)


def public(host: str) -> bool:
    """Whether `host` is a name with a dot, or an address of the internet: not this host, network or cloud."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        private_end = name.endswith((".internal", ".local", ".localhost", ".lan", ".home.arpa"))
        return "." in name and not private_end and not _NUMBER.match(name.rpartition(".")[2])
    return address.is_global and not any(address in network for network in _NEVER)
