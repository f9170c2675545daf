"""`compute yield` on a machine without a GPU: its RAM is its owner's, and the model is back afterwards."""

import json
import time
from typing import Any

import pytest

from tests.e2e.conftest import wait_ready
from tests.support.suite import RunningSuite, wait_for

pytestmark = pytest.mark.engine
YIELD_SECONDS = 12
PROMISED_SECONDS = 30


def status_of(suite: RunningSuite, name: str) -> str:
    return str(suite.get("vllm-orchestrator", f"/api/v1/vllm/instances/{name}")["status"])


def test_the_machine_is_free_within_seconds_and_comes_back(
    suite: RunningSuite, smollm2: dict[str, Any]
) -> None:
    began = time.monotonic()
    done = suite.compute("yield", "test-node", "--for", f"{YIELD_SECONDS}s", "--json")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < PROMISED_SECONDS
    lent = json.loads(done.stdout)["yields"]
    assert [(each["gpu_index"], each["reservations"]) for each in lent] == [(None, [])]
    wait_for(lambda: status_of(suite, "smollm2") == "stopped")
    again = suite.compute("deploy", smollm2["model_name"], "--name", "elsewhere")
    assert again.returncode == 1
    wait_ready(suite, "smollm2")
    assert time.monotonic() - began >= YIELD_SECONDS - 1


def test_ended_early_by_hand(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    assert smollm2["instance_name"] == "smollm2"
    wait_ready(suite, "smollm2")
    suite.compute("yield", "test-node")
    wait_for(lambda: status_of(suite, "smollm2") == "stopped")
    done = suite.compute("yield", "test-node", "--end")
    assert done.returncode == 0, done.stderr
    assert "belongs to the cluster" in done.stdout
    wait_ready(suite, "smollm2")


def test_a_node_nobody_knows_is_named(suite: RunningSuite) -> None:
    done = suite.compute("yield", "no-such-box", "--for", "1h")
    assert done.returncode == 1
    assert "no GPU orchestrator answers for node 'no-such-box'" in " ".join(done.stderr.split())
