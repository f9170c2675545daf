"""Where a service may listen: beyond loopback only with keys, or when told to."""

import ipaddress

REFUSED = 78  # EX_CONFIG: systemd's RestartPreventExitStatus= can name it


def refusal_to_listen(host: str, *, keys: bool, allowed: bool) -> str | None:
    """One line for whoever started it; None when `host` may be listened on."""
    if keys or allowed or is_loopback(host):
        return None
    return (
        f"refusing to listen on {host} without an API key: make one (`compute keys add NAME --scope admin`), "
        "set COMPUTE_API_KEY, or COMPUTE_ALLOW_NO_KEY=1 if this network is yours alone"
    )


def is_loopback(host: str) -> bool:
    """Whether only this host reaches `host`; a name is trusted only when it is `localhost`."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
