"""`compute up` ends the engines in containers too, through the proxy."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from compute_cli.containers import end_containers
from compute_common.engine_containers import create_body
from tests.support.compose import require_docker
from tests.support.docker_proxy import docker, docker_proxy
from tests.unit.compute_docker_proxy.containers import LLAMA
from vllm_orchestrator.engines.docker_api import DockerApi
from vllm_orchestrator.engines.files import EngineFiles

IMAGE = "python:3.11-slim-bookworm"


@pytest.mark.docker
async def test_containers_are_removed(tmp_path: Path) -> None:
    require_docker()
    ours = replace(
        LLAMA, image=IMAGE, models=str(tmp_path), words=("sleep", "600"), owner=os.urandom(8).hex()
    )
    files = EngineFiles(tmp_path)
    with docker_proxy(tmp_path, LLAMA_DOCKER_IMAGE=IMAGE) as path:
        api = DockerApi(path)
        made = await api.create(ours.name, create_body(ours))
        await api.close()
        files.note_container("smol", made)
        files.note_container("gone", "ab" * 32)
        assert await end_containers(tmp_path, {"DOCKER_PROXY_SOCKET": str(path)}) == []
    assert docker("ps", "-aq", "--filter", f"name={ours.name}") == ""
    assert list((tmp_path / "containers").iterdir()) == []


async def test_without_a_proxy_they_are_named(tmp_path: Path) -> None:
    assert await end_containers(tmp_path, {}) == []
    files = EngineFiles(tmp_path)
    files.note_container("smol", "ab" * 32)
    (tmp_path / "containers" / "nonsense").write_text("../x")
    assert await end_containers(tmp_path, {}) == ["smol"]
    files.forget_container("smol", "cd" * 32)  # a later one has the name by now
    assert await end_containers(tmp_path, {}) == ["smol"]
