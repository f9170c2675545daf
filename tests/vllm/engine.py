"""A real `vllm serve` on the CPU: started, watched until it answers or gives up, ended with its group."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port

START_SECONDS = 240
NAME = "tiny"
_KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
_REASON = re.compile(r"(?:ValueError|AssertionError|NotImplementedError|Value error,).*")


@dataclass(frozen=True)
class Verdict:
    """Whether the engine started and completed one token, the KV tokens it logged, or its last reason."""

    started: bool
    kv_tokens: int | None
    reason: str
    seconds: float


def cpu_environment(kv_gib: int = 1) -> dict[str, str]:
    """What real vLLM needs on a small machine without a GPU and without a network."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
    }


def try_serving(binary: Path, model: Path, words: Sequence[str], log: Path) -> Verdict:
    """Start, probe once, stop; never raises for an engine that refuses."""
    port = free_port()
    argv = [str(binary), "serve", str(model), "--served-model-name", NAME, "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--dtype", "bfloat16", *words]
    began = time.monotonic()
    with log.open("wb") as output:
        engine = subprocess.Popen(
            argv,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(cpu_environment(), binary),
            start_new_session=True,
        )
        try:
            started = _wait(engine, port) and _completes(port)
        finally:
            _end(engine)
    text = log.read_text(errors="replace")
    tokens = _KV_TOKENS.search(text)
    return Verdict(
        started,
        int(tokens[1].replace(",", "")) if tokens else None,
        "" if started else _reason(text),
        time.monotonic() - began,
    )


def _environment(more: Mapping[str, str], binary: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | dict(more) | {"PATH": f"{binary.parent}{os.pathsep}{kept.get('PATH', '')}"}


def _wait(engine: subprocess.Popen[bytes], port: int) -> bool:
    """Whether /health answers before the process ends."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and engine.poll() is None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            time.sleep(0.2)
    return False


def _completes(port: int) -> bool:
    """Whether one token comes: an engine can be healthy and die of its first request."""
    body = {"model": NAME, "prompt": "a", "max_tokens": 1}
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and len(answer.json()["choices"]) == 1


def _end(engine: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to the group: workers outlive a parent that was killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        engine.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
    engine.wait(15)


def _reason(text: str) -> str:
    found = [match[0] for match in _REASON.finditer(text)]
    return found[0][:300] if found else text[-300:]
