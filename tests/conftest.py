"""Fixtures every test may use."""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from tests.support import environment
from tests.support.nats import NatsServer

_CLEAN = (
    "NATS_URL", "NODE_ID", "COMPUTE_HOME", "COMPUTE_API_KEY", "NODE_REGISTRY_NATS_URL",
    "SUPABASE_URL", "SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY",
)  # fmt: skip
MAY_SKIP = ("GPU", "SUPABASE_URL")  # no machine of ours has them
assert environment, "imported before the environment is cleaned"
for _name in _CLEAN:
    os.environ.pop(_name, None)
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # no test asks the real Hub


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With REQUIRE_ALL=1 a skip is a failure: CI installs every system part."""
    report = yield
    if os.environ.get("REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(excepted in reason for excepted in MAY_SKIP):
            report.outcome = "failed"
            report.longrepr = f"REQUIRE_ALL=1 and this was skipped: {reason}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure when it happens: a whole run takes a quarter of an hour."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        words = str(crash.message if crash else report.longrepr or "").splitlines() or [""]
        print(f"\n{report.when} of {report.nodeid} failed: {words[0][:200]}", flush=True)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Side by side (`-n`), a file's tests share a process, and all end-to-end tests their one suite."""

    def _split_scope(self, nodeid: str) -> str:
        return "e2e" if nodeid.startswith("tests/e2e/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the working tree."""
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path / "home"))


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh server with JetStream, empty, on a free port."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connected bus of the test's own."""
    own = Bus(NatsSettings(NATS_URL=nats_server.url), "test")
    own.start()
    assert await own.wait_connected(5)
    yield own
    await own.stop()
