"""Engines carry in their environment whose they are: one whose start was cut short is found all the same."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import psutil

from vllm_orchestrator.engines.process import EngineProcess

OWNER, INSTANCE, EPOCH = "COMPUTE_ENGINE_OWNER", "COMPUTE_ENGINE_INSTANCE", "COMPUTE_ENGINE_EPOCH"


@dataclass(frozen=True)
class MarkedEngine:
    """A process group that carries our mark; `leads` is false once only orphans of it live."""

    instance_name: str
    epoch: int
    process: EngineProcess
    leads: bool
    port: int | None


def marks(owner: str, instance_name: str, epoch: int) -> dict[str, str]:
    """What an engine finds in its environment. `owner`: one orchestrator's state, told from all others'."""
    return {OWNER: owner, INSTANCE: instance_name, EPOCH: str(epoch)}


def marked_engines(owner: str) -> list[MarkedEngine]:
    """Every living group of this owner's engines, whatever files or records say of it."""
    found: dict[int, MarkedEngine] = {}
    for process in psutil.process_iter():
        seen = _seen(process, owner)
        if seen is not None and (seen.leads or seen.process.pid not in found):
            found[seen.process.pid] = seen
    return list(found.values())


def _seen(process: psutil.Process, owner: str) -> MarkedEngine | None:
    try:
        environment: Mapping[str, str] = process.environ()
        if environment.get(OWNER) != owner or process.status() == psutil.STATUS_ZOMBIE:
            return None
        group = os.getpgid(process.pid)
        leads = group == process.pid
        return MarkedEngine(
            environment.get(INSTANCE, ""),
            int(environment.get(EPOCH, "0")),
            EngineProcess(group, process.create_time() if leads else 0.0),
            leads,
            next(_ports(process.cmdline()), None) if leads else None,
        )
    except (psutil.Error, OSError, ValueError):
        return None  # it ended meanwhile, or is another user's


def _ports(argv: list[str]) -> Iterator[int]:
    for flag, value in pairwise(argv):
        if flag == "--port" and value.isdecimal():
            yield int(value)
