"""Stand-ins for vLLM on PATH; and no test of this folder leaves an engine behind, not even a failing one."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from compute_cli.children import recorded_process
from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.stand_in import SEVERAL_HOSTS, put_on_path
from tests.integration.vllm_orchestrator.two_hosts import Pair, two_hosts
from tests.support.nats import NatsServer


@pytest.fixture(autouse=True)
def _no_engine_stays(tmp_path: Path) -> Iterator[None]:
    yield
    for record in tmp_path.rglob("engines/*.json"):
        left = recorded_process(record)
        if left is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(left.pid, signal.SIGKILL)


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path / "bin")


@pytest.fixture
def vllm_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path / "bin", SEVERAL_HOSTS)


@pytest.fixture
async def pair(
    nats_server: NatsServer, tmp_path: Path, vllm_of_several: None, bus: Bus
) -> AsyncIterator[Pair]:
    async with two_hosts(nats_server, tmp_path, bus) as pair:
        yield pair
