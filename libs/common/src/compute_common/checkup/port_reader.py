"""Reads whether the suite's ports are free, and who holds one that is not."""

import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from compute_common.access.tls import client_context
from compute_common.checkup.facts import Clock, Port
from compute_common.times import utc_now

ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Wanted:
    """A port of the suite; `url` where its health is told, None for what speaks no HTTP."""

    service: str
    variable: str
    host: str
    port: int
    url: str | None = None


def read_ports(wanted: Iterable[Wanted], home: Path, environ: Mapping[str, str]) -> tuple[Port, ...]:
    """Each: free, ours (the suite of `home`, or any program that says it is that service), or taken."""
    ours = _own_pids(home)
    found = []
    for each in wanted:
        if _free(each.host, each.port):
            found.append(Port(each.port, each.service, each.variable, free=True))
            continue
        pid, owner = listener(each.port)
        own = pid in ours or _says(each, environ)
        found.append(Port(each.port, each.service, each.variable, free=False, ours=own, owner=owner))
    return tuple(found)


def read_clock(url: str, name: str, environ: Mapping[str, str]) -> Clock | None:
    """This clock beside the one in the `Date` of an HTTP answer; None without an answer.

    The header has whole seconds, cut off, and is up to a second old: the middle of that is compared.
    """
    import httpx  # noqa: PLC0415 - a service that is seldom asked does without

    try:
        before = utc_now()
        answer = httpx.get(f"{url}/livez", timeout=ANSWER_SECONDS, verify=client_context(environ))
        after = utc_now()
        there = parsedate_to_datetime(answer.headers["Date"])
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
        return None
    half = (after - before) / 2
    return Clock(name, ((before + half) - there).total_seconds() - 1.0, 1.0 + half.total_seconds())


def listener(port: int) -> tuple[int | None, str | None]:
    """Pid, and name with pid, of who listens, where this user may see it."""
    try:
        import psutil  # noqa: PLC0415 - the programs that look have it; the shared library does without
    except ImportError:
        return None, None
    try:
        for each in psutil.net_connections("tcp"):
            if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN and each.pid:
                return each.pid, f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except (psutil.Error, OSError):
        return None, None
    return None, None


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _own_pids(home: Path) -> set[int]:
    pids = {os.getpid()}
    for record in (home / "run").glob("*.json"):
        try:
            pids.add(int(json.loads(record.read_text())["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return pids


def _says(wanted: Wanted, environ: Mapping[str, str]) -> bool:
    """Whether what listens there tells the health of that very service."""
    if wanted.url is None:
        return False
    import httpx  # noqa: PLC0415 - a service that is seldom asked does without

    try:
        answer = httpx.get(f"{wanted.url}/healthz", timeout=ANSWER_SECONDS, verify=client_context(environ))
        told = answer.json()
    except (httpx.HTTPError, OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("service") == wanted.service
