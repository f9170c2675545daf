"""A model that nobody here knows is planned by the Hub's config.json and file sizes."""

import json
from pathlib import Path

from tests.integration.vllm_orchestrator.hosts import TINY_LLAMA, orchestrator
from tests.support.apps import serving
from tests.support.hub import HubStandIn
from tests.support.nats import NatsServer

WEIGHTS = bytes(4_000_000)
GPU = {"index": 0, "name": "RTX 3090", "vram_mb": 24_576}
INVENTORY = [{"node_id": "n", "hostname": "n", "gpus": [GPU]}]


def model(config: bytes) -> dict[str, bytes]:
    return {"config.json": config, "model.safetensors": WEIGHTS}


async def test_a_model_only_the_hub_knows_is_planned(nats_server: NatsServer, tmp_path: Path) -> None:
    hub = HubStandIn(models={"some/new-model": model(json.dumps(TINY_LLAMA).encode())})
    async with hub.running(), serving(orchestrator(nats_server, tmp_path, HF_ENDPOINT=hub.url)) as client:
        body = {"model_name": "some/new-model", "inventory": INVENTORY}
        answers = [(await client.post("/api/v1/vllm/plan", json=body)).json() for _ in range(2)]
        assert answers[0]["fits"] is True, answers[0]
        assert "on the Hub" in answers[0]["plan"]["memory"]["source"]
        assert len([path for path, _range, _token in hub.asked if path.endswith("config.json")]) == 1


async def test_what_the_hub_refuses_says_what_to_do(nats_server: NatsServer, tmp_path: Path) -> None:
    models = {"some/gated": model(b"{}"), "some/broken": model(b"[1")}
    hub = HubStandIn(models=models, gated={"some/gated"})
    async with hub.running(), serving(orchestrator(nats_server, tmp_path, HF_ENDPOINT=hub.url)) as client:
        said = {}
        for name in ("some/gated", "some/broken", "some/absent"):
            answer = await client.post("/api/v1/vllm/plan", json={"model_name": name, "inventory": INVENTORY})
            said[name] = (answer.status_code, answer.json()["detail"])
        assert said["some/gated"][0] == 403
        assert "HF_TOKEN" in said["some/gated"][1]
        assert said["some/broken"][0] == 422
        assert said["some/absent"][0] == 404
        assert "model_config" in said["some/absent"][1]


async def test_without_the_hub_the_answer_says_what_to_supply(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    service = orchestrator(nats_server, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    async with serving(service) as client:
        answer = await client.post("/api/v1/vllm/plan", json={"model_name": "some/new-model"})
        assert answer.status_code == 404
        assert "model_config" in answer.json()["detail"]
