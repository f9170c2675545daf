"""What everything that runs engines on this host shares."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from compute_common.bus import Bus
from vllm_orchestrator.downloads.deploying import ModelFiles
from vllm_orchestrator.engines.files import EngineFiles
from vllm_orchestrator.engines.runtimes import Runtimes
from vllm_orchestrator.instances.ledger import LedgerClient
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.settings import Settings


@dataclass(frozen=True)
class Tools:
    """`changed(record)` keeps the record and tells the cluster, `tell(record)` only tells."""

    node_id: str
    settings: Settings
    bus: Bus
    ledger: LedgerClient
    files: EngineFiles
    client: httpx.AsyncClient
    changed: Callable[[Record], Awaitable[None]]
    tell: Callable[[Record], Awaitable[None]]
    ports_taken: Callable[[], set[int]]
    runtimes: Runtimes
    models: ModelFiles
