"""The demonstration of `compute run`: from this machine's hardware to an answer and a measurement."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from compute_cli.client import Refused, Services
from compute_cli.views import gib

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTANCE = "smollm2"
QUESTION = "What is the capital of France? Answer in one short sentence."
BENCHMARK = {
    "batch_sizes": [1, 4],
    "context_lengths": [128],
    "output_tokens": 32,
    "warmup": 1,
    "iterations": 1,
    "repeats": 1,
}
MODEL_READY_SECONDS = 180.0


class Demo:
    """Runs its steps against a suite that is ready; raises `Refused` with the reason when one fails."""

    def __init__(self, services: Services, console: Console, node_id: str) -> None:
        self._services = services
        self._console = console
        self._node_id = node_id
        self.facts: dict[str, Any] = {}  # what was found, for programs

    async def run(self) -> None:
        """All steps, in order; each prints what it did and how long it took."""
        for step in (self.detect, self.find_node, self.deploy, self.ask, self.benchmark):
            await asyncio.to_thread(step)

    def detect(self) -> None:
        host = self._services.get("resource-detector", "/api/v1/detect")
        cpu, memory, gpus = host.get("cpu", {}), host.get("memory", {}), host.get("gpus", [])
        self._say(
            "detected",
            f"{cpu.get('model_name', 'CPU')}, {cpu.get('threads')} threads, {gib(memory.get('total_mb'))}",
        )
        for gpu in gpus:
            self._say("", f"GPU {gpu['index']}: {gpu['name']}, {gib(gpu.get('vram_mb'))}")
        self._say("tier", f"{host.get('tier')}: {host.get('tier_reason')}")

    def find_node(self) -> None:
        node = self._poll(self._node, lambda node: node is not None, 20, "the node to be announced")
        self.facts |= {"node_id": node["node_id"], "tier": node["tier"]}
        self._say("registry", f"{node['node_id']} is {node['status']}, tier {node['tier']}")

    def deploy(self) -> None:
        started = time.monotonic()
        plan = self._services.post(
            "vllm-orchestrator", "/api/v1/vllm/deploy", {"model_name": MODEL, "instance_name": INSTANCE}
        )
        self._say("plan", plan["explanation"])
        path = f"/api/v1/vllm/instances/{INSTANCE}"
        with self._console.status("loading the model") as status:

            def look() -> dict[str, Any]:
                instance = self._services.get("vllm-orchestrator", path)
                phase = (instance.get("progress") or {}).get("phase", instance["status"])
                status.update(f"loading the model: {phase} ({time.monotonic() - started:.0f} s)")
                return instance

            done = ("ready", "failed", "stopped")
            instance = self._poll(
                look, lambda found: found["status"] in done, MODEL_READY_SECONDS, "the model to load"
            )
        if instance["status"] != "ready":
            raise Refused(f"the model did not start: {instance.get('last_error')}")
        took = time.monotonic() - started
        self._say("deployed", f"{MODEL} as '{INSTANCE}' on {instance['engine']}, ready after {took:.1f} s")

    def ask(self) -> None:
        started = time.monotonic()
        body = {
            "work_type": "inference",
            "model_name": INSTANCE,
            "priority": 1,
            "payload": {
                "messages": [{"role": "user", "content": QUESTION}],
                "max_tokens": 40,
                "temperature": 0,
            },
        }
        work_id = self._services.post("work-marshaling", "/api/v1/work/submit", body)["work_id"]
        self._say("asked", f"{QUESTION} ({work_id})")
        item = self._services.get("work-marshaling", f"/api/v1/work/{work_id}", wait=30)
        if item["status"] != "completed":
            why = item.get("error_message") or item.get("waiting_for")
            raise Refused(f"the work item is {item['status']}: {why}")
        result = item["result"]
        self.facts["answer"] = result["text"].strip()
        took = (time.monotonic() - started) * 1000
        self.facts |= {"work_id": work_id, "latency_ms": round(took, 1), "ttft_ms": result["ttft_ms"]}
        self._console.print(f"{'answer':>10} ", Text(result["text"].strip(), style="bold green"))
        self._say(
            "latency",
            f"{took:.0f} ms in all, first token after {result['ttft_ms']:.0f} ms, by {item['assigned_node']}",
        )

    def benchmark(self) -> None:
        body = {"model_name": MODEL, "instance_name": INSTANCE, "gpu_count": 0, **BENCHMARK}
        run = self._services.post("benchmark-runner", "/api/v1/benchmark/run", body)["benchmark_id"]
        path = f"/api/v1/benchmark/{run}"
        with self._console.status("benchmark: two cells"):
            final = ("completed", "failed", "cancelled")
            result = self._poll(
                lambda: self._services.get("benchmark-runner", path),
                lambda b: b["status"] in final,
                120,
                "the benchmark",
            )
        if result["status"] != "completed":
            raise Refused(f"the benchmark {result['status']}: {result.get('error')}")
        self.facts |= {"benchmark_id": run, "cells": result["cells"]}
        table = Table(
            "batch", "context", "tokens/s", "first token p50", "between tokens p50", box=None, pad_edge=False
        )
        for cell in result["cells"]:
            ttft, itl = cell["ttft_ms"]["p50"] or 0, cell["itl_ms"]["p50"] or 0
            speed = f"{cell['output_tokens_per_s']:.1f}"
            row = (
                str(cell["batch_size"]),
                str(cell["context_length"]),
                speed,
                f"{ttft:.0f} ms",
                f"{itl:.1f} ms",
            )
            table.add_row(*row)
        self._say("benchmark", f"{run}, output tokens per second by concurrency:")
        self._console.print(table)

    def _node(self) -> dict[str, Any] | None:
        try:
            return self._services.get("node-registry", f"/api/v1/nodes/{self._node_id}")
        except Refused:
            return None

    def _poll(self, look: Callable[[], Any], done: Callable[[Any], bool], seconds: float, what: str) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if done(found):
                return found
            if time.monotonic() > deadline:
                raise Refused(f"waited {seconds:g} s in vain for {what}")
            time.sleep(0.1)

    def _say(self, label: str, text: str) -> None:
        self._console.print(Text(f"{label:>10}", style="cyan"), Text(f" {text}"), soft_wrap=True)
