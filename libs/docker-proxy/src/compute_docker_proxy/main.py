"""`compute-docker-proxy`: serves the proxy on a Unix socket until SIGTERM."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import structlog
import uvicorn
from pydantic import ValidationError

from compute_common.engine_containers import BRIDGE
from compute_common.shell.logging import configure_logging
from compute_docker_proxy.app import DockerProxy
from compute_docker_proxy.grants import Grants
from compute_docker_proxy.settings import ProxySettings
from compute_docker_proxy.upstream import Docker

log = structlog.get_logger("docker-proxy")


def main() -> int:
    """0 at SIGTERM, 2 for settings that cannot be used."""
    try:
        settings = ProxySettings()
        listening = listen(settings.listen, settings.docker_proxy_group)
    except (ValidationError, OSError) as error:
        sys.stderr.write(f"compute-docker-proxy: {error}\n")
        return 2
    configure_logging("docker-proxy", "INFO")
    asyncio.run(serve(settings, listening))
    settings.listen.unlink(missing_ok=True)
    return 0


def listen(path: Path, group: int | None) -> socket.socket:
    """A Unix socket for its owner, and `group` where one is named. OSError where another listens there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _free(path)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    if group is not None:
        os.chown(path, -1, group)
        path.chmod(0o660)
    listening.listen()
    return listening


def grants_of(settings: ProxySettings) -> Grants:
    return Grants(
        images=settings.images,
        models=settings.models,
        bind=settings.engine_bind,
        ports=settings.ports,
        network=settings.engine_docker_network,
        host_network=settings.allow_host_network,
    )


async def serve(settings: ProxySettings, listening: socket.socket) -> None:
    """Until a signal ends it; a log that is followed does not hold the end up."""
    docker = Docker(settings.docker_socket)
    config = uvicorn.Config(
        DockerProxy(docker, grants_of(settings)),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has ended
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    try:
        await uvicorn.Server(config).serve([listening])
    finally:
        if settings.ends_engines:
            await _end_engines(docker, settings.engine_docker_network or BRIDGE)
        await docker.close()


async def _end_engines(docker: Docker, network: str) -> None:
    try:
        log.info("engines ended", containers=await docker.end_all(network))
    except httpx.HTTPError as error:
        log.warning("engines may be left", error=type(error).__name__)


def _free(path: Path) -> None:
    """Take away what a killed proxy left; one that lives keeps its place."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise OSError(f"another proxy listens at {path}")
