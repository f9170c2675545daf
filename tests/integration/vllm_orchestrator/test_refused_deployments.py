"""What a deployment can ask in vain: refused before anything starts, with the reason and what would work."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, NODE, SMOLLM, orchestrator, registry, until
from tests.support.apps import serving
from tests.support.nats import NatsServer

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 3, "num_key_value_heads": 3,
    "head_dim": 32, "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 2048,
}  # fmt: skip


def model_folders(root: Path) -> Path:
    """A whole model, one without weights, one whose weights were cut off, one that is no model."""
    for name in ("whole", "weightless", "cut"):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [512, 64], "data_offsets": [0, 65_536]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(65_536)
    (root / "whole" / "model.safetensors").write_bytes(whole)
    (root / "cut" / "model.safetensors").write_bytes(whole[:-1000])
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model_name": "nobody/knows-this"}, 404, ["model_path", "model_config"]),
        ({"model_name": "smolm2"}, 404, [f"Did you mean {SMOLLM}"]),
        ({"model_name": "weightless"}, 422, ["no *.safetensors weights", "compute models pull"]),
        ({"model_name": "cut"}, 422, ["model.safetensors", "compute models pull"]),
        ({"model_name": "x", "model_path": "empty"}, 422, ["neither a config.json nor a .gguf"]),
        ({"model_name": "whole", "max_model_len": 4096}, 409, ["2048"]),
        (
            {"model_name": "whole", "tensor_parallel_size": 2},
            409,
            ["3 attention heads", "What would fit: tensor_parallel_size 1 and pipeline_parallel_size 1"],
        ),
        (
            {"model_name": "whole", "gpu_memory_utilization": 0.001},
            409,
            ["MiB per GPU short", "What would fit: without gpu_memory_utilization"],
        ),
        ({"model_name": "whole", "gpu_indices": [7]}, 409, ["What would fit: gpu_indices [0]"]),
        ({"model_name": "whole", "engine": "llama_cpp"}, 409, ["not a GGUF file", "engine vllm"]),
        ({"model_name": SMOLLM, "node_id": "nowhere"}, 404, ["nowhere"]),
        (
            {"model_name": SMOLLM, "instance_name": "known", "max_model_len": 256},
            409,
            ["max_model_len", "DELETE"],
        ),
    ],
)
async def test_refused_before_anything_starts(
    nats_server: NatsServer, tmp_path: Path, asked: dict[str, Any], status: int, words: list[str]
) -> None:
    home = tmp_path / "home"
    models = model_folders(tmp_path / "models")
    ledger = gpu_orchestrator(home, nats_server.url, two_gpus(), NODE)
    service = orchestrator(nats_server, home, VLLM_MODEL_PATH=models)
    async with serving(ledger) as gpu, serving(service) as client:
        known = {"model_name": SMOLLM, "instance_name": "known", "auto_start": False}
        assert (await client.post("/api/v1/vllm/deploy", json=known)).status_code == 202
        answer = await client.post("/api/v1/vllm/deploy", json=asked)
        assert answer.status_code == status, answer.text
        for word in words:
            assert word in answer.json()["detail"]
        assert (await client.get(INSTANCES)).json()["count"] == 1
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        assert not (home / "engines").exists()


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_ports_that_are_taken_are_named(nats_server: NatsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with listening() as port:
        ledger = gpu_orchestrator(home, nats_server.url, two_gpus(), NODE)
        service = orchestrator(nats_server, home, ENGINE_PORTS=str(port))
        async with serving(ledger) as gpu, serving(service) as client:
            answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
            assert answer.status_code == 503
            assert f"{port}-{port}" in answer.json()["detail"]
            assert "ENGINE_PORTS" in answer.json()["detail"]
            assert (await client.get(INSTANCES)).json()["count"] == 0
            assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


@pytest.mark.parametrize(("level", "word"), [("critical", "out of memory"), ("ok", "draining")])
async def test_a_host_that_takes_nothing_new_gets_nothing(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, level: str, word: str
) -> None:
    """As the registry knows it, whoever is asked and whether the host is named or not."""
    home = tmp_path / "home"
    ledger = gpu_orchestrator(home, nats_server.url, two_gpus(), NODE)
    async with (
        registry(nats_server) as nodes,
        serving(ledger) as gpu,
        serving(orchestrator(nats_server, home)) as client,
    ):
        document = {"node_id": NODE, "hostname": NODE, "managed": True, "memory": {"total_gb": 16}}
        await bus.publish(subjects.NODES_ANNOUNCE, document)
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": NODE, "memory_level": level})

        async def known() -> Any:
            return (await nodes.get(f"/api/v1/nodes/{NODE}")).json()

        await until(known, lambda node: node.get("memory_level") == level, 10)
        if word == "draining":
            assert (await nodes.post(f"/api/v1/nodes/{NODE}/drain")).status_code == 200
        for named in ({}, {"node_id": NODE}):
            answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM, **named})
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:compute:error:no-fit")
            assert f"no host takes a new engine now: {NODE}" in answer.json()["detail"]
            assert word in answer.json()["detail"]
        assert (await client.get(INSTANCES)).json()["count"] == 0
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


async def test_a_host_without_an_orchestrator_is_passed_over(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """Its detector announces cards, but nobody there could start an engine: another host, or a refusal."""
    home = tmp_path / "home"
    model_folders(home / "models")
    card = {"index": 0, "name": "NVIDIA H100 80GB HBM3", "vram_mb": 81_559, "compute_capability": "9.0"}
    async with registry(nats_server) as nodes, serving(orchestrator(nats_server, home)) as client:
        document = {"node_id": "ghost", "hostname": "ghost", "managed": True, "gpus": [card]}
        await bus.publish(subjects.NODES_ANNOUNCE, document)

        async def known() -> Any:
            return (await nodes.get("/api/v1/nodes/ghost")).status_code

        await until(known, lambda status: status == 200, 10)
        answer = await client.post("/api/v1/vllm/plan", json={"model_name": "whole"})
        assert {
            "layout": "host ghost",
            "reason": "no orchestrator answers there, so nothing can be started",
        } in (answer.json()["rejected"])
        refused = await client.post("/api/v1/vllm/deploy", json={"model_name": "whole"})
        assert refused.status_code == 409, refused.text
        assert "ghost: no orchestrator answers there" in refused.json()["detail"]
