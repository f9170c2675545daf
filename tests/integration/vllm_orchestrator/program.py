"""The orchestrator as a program of its own, so that it can be killed."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx

from compute_cli.suite import uvicorn_argv
from tests.integration.vllm_orchestrator.hosts import NODE, until
from tests.support.nats import NatsServer
from tests.support.ports import free_port


class Orchestrator:
    """The real program, as `compute up` starts it."""

    def __init__(self, server: NatsServer, home: Path, node_id: str = NODE, **more: str) -> None:
        self.port = free_port()
        first = free_port()
        self.environment = {
            **os.environ,
            "NATS_URL": server.url,
            "NODE_ID": node_id,
            "COMPUTE_HOME": str(home),
            "ENGINE_PORTS": f"{first}-{min(first + 3, 65_535)}",
            "LOG_LEVEL": "ERROR",
            **more,
        }
        self.log = home / "orchestrator.log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            argv = uvicorn_argv("vllm_orchestrator", "127.0.0.1", self.port)
            self.process = subprocess.Popen(argv, env=self.environment, stdout=output, stderr=output)

    async def start(self) -> None:
        self.launch()

        async def is_ready() -> bool:
            async with self.client() as client:
                with suppress(httpx.HTTPError):
                    return (await client.get("/readyz")).status_code == 200
            return False

        await until(is_ready, bool, 20)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
