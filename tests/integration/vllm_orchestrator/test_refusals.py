"""What is refused before anything starts, and what is answered without an engine."""

from pathlib import Path

import pytest
import yaml

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from tests.integration.vllm_orchestrator.hosts import INSTANCES, SMOLLM, ledger, orchestrator, until
from tests.support.apps import serving
from tests.support.nats import NatsServer

HOSTILE = ["../../x", "a;rm -rf", "x" * 10_000, "/etc/passwd", "-rf", "a\nb", "$(id)", "", "\u0000"]


async def test_a_model_for_gpus_is_refused_with_the_shortfall(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        answer = await client.post(
            "/api/v1/vllm/deploy",
            json={"model_name": "meta-llama/Llama-3-70B", "instance_name": "llama-3-70b-main"},
        )
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"] == "urn:compute:error:no-fit"
        assert problem["shortfall"]["short_mb"] > 130_000
        assert "2 x 80 GB GPU" in problem["detail"]
        assert (await client.get(INSTANCES)).json()["count"] == 0


async def test_an_unknown_model_says_what_to_supply(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": "nobody/knows-this"})
        assert answer.status_code == 404
        for word in ("model_path", ".gguf", "model_config"):
            assert word in answer.json()["detail"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_refused(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, name: str
) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        for body in (
            {"model_name": name},
            {"model_name": SMOLLM, "instance_name": name},
            {"model_name": SMOLLM, "model_path": name},
            {"model_name": SMOLLM, "node_id": name},
        ):
            for route in ("deploy", "plan"):
                answer = await client.post(f"/api/v1/vllm/{route}", json=body)
                assert answer.status_code in (404, 422), (route, body)
                assert answer.json()["detail"]
            with pytest.raises(Problem) as refused:
                await bus.request(subjects.VLLM_REQUEST, body, 5)
            assert refused.value.status in (404, 422)
        assert (await client.get(INSTANCES)).json()["count"] == 0


async def test_a_symlink_out_of_the_model_folder_is_refused(nats_server: NatsServer, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("{}")
    (models / "way-out").symlink_to(tmp_path / "secret")
    service = orchestrator(nats_server, tmp_path / "home", VLLM_MODEL_PATH=models)
    async with serving(service) as client:
        for body in ({"model_name": "way-out"}, {"model_name": "x", "model_path": "way-out"}):
            answer = await client.post("/api/v1/vllm/plan", json=body)
            assert answer.status_code in (404, 422)


async def test_without_a_ledger_nothing_is_left_behind(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:compute:error:no-responder"
        assert (await client.get(INSTANCES)).json()["count"] == 0
        assert not (tmp_path / "engines").exists()


async def test_what_the_ledger_promised_is_not_planned_again(nats_server: NatsServer, tmp_path: Path) -> None:
    async with ledger(nats_server, tmp_path / "home") as gpu:
        memory = (await gpu.get("/api/v1/gpu/states")).json()["host_memory"]
        body = {"gpu_indices": [], "required_mb": memory["available_mb"] - 100}
        assert (await gpu.post("/api/v1/gpu/reserve", json=body)).status_code == 201
        async with serving(orchestrator(nats_server, tmp_path / "home")) as client:
            answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
            assert answer.status_code == 409
            assert answer.json()["shortfall"]["short_mb"] > 0


async def test_a_missing_binary_is_named(nats_server: NatsServer, tmp_path: Path) -> None:
    service = orchestrator(nats_server, tmp_path, LLAMA_SERVER_BIN=tmp_path / "absent")
    async with serving(service) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
        assert answer.status_code == 503
        assert "LLAMA_SERVER_BIN" in answer.json()["detail"]
        health = (await client.get("/healthz")).json()
        assert health["status"] == "degraded"


async def test_a_binary_without_its_library_says_so(nats_server: NatsServer, tmp_path: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text(
        "#!/bin/sh\necho 'llama-server: error while loading shared libraries: libgomp.so.1:"
        " cannot open shared object file: No such file or directory' >&2\nexit 127\n"
    )
    binary.chmod(0o755)
    async with serving(orchestrator(nats_server, tmp_path, LLAMA_SERVER_BIN=binary)) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
        assert answer.status_code == 503
        assert "libgomp.so.1" in answer.json()["detail"]
        assert "LLAMA_SERVER_BIN" in answer.json()["detail"]


async def test_planned_only(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        body = {"model_name": "smollm2", "auto_start": False}
        answer = await client.post("/api/v1/vllm/deploy", json=body)
        assert (answer.status_code, answer.json()["status"]) == (202, "planned")
        text = (await client.get(f"{INSTANCES}/smollm2/compose")).text
        assert yaml.safe_load(text) == answer.json()["docker_compose"]
        second = await client.post("/api/v1/vllm/deploy", json=body)
        assert second.json()["instance_name"] == "smollm2-2"
        assert (await client.delete(f"{INSTANCES}/smollm2")).status_code == 200
        assert (await client.delete(f"{INSTANCES}/smollm2")).status_code == 404


async def test_what_if(nats_server: NatsServer, tmp_path: Path) -> None:
    gpus = [{"index": index, "name": "RTX 3090", "vram_mb": 24_576} for index in range(2)]
    host = {"node_id": "dream", "hostname": "dream", "gpus": gpus, "memory": {"total_gb": 64}}
    config = {
        "num_hidden_layers": 40, "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 10,
        "intermediate_size": 17920, "vocab_size": 100352, "max_position_embeddings": 16384,
    }  # fmt: skip
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        body = {"model_name": "my/model", "model_config": config, "inventory": [host]}
        answer = (await client.post("/api/v1/vllm/plan", json=body)).json()
        assert answer["fits"] is True
        assert answer["plan"]["strategy"] == "TENSOR_PARALLEL"
        assert answer["plan"]["placement"][0]["node_id"] == "dream"
        bad = await client.post("/api/v1/vllm/plan", json={**body, "model_config": {"hidden_size": -1}})
        assert bad.status_code == 422
        assert "model_config" in bad.json()["detail"]


async def test_a_plan_ranks_what_else_fits_and_says_why_the_rest_does_not(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    gpus = [{"index": n, "name": "NVIDIA H100 80GB HBM3", "vram_mb": 81_559} for n in range(8)]
    host = {"node_id": "big", "hostname": "big", "gpus": gpus, "recommendations": {"kv_cache_dtype": "fp8"}}
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        body = {"model_name": "meta-llama/Llama-3-70B", "inventory": [host]}
        answer = (await client.post("/api/v1/vllm/plan", json=body)).json()
        assert answer["plan"]["tensor_parallel_size"] == 2
        assert answer["plan"]["config"]["kv_cache_dtype"] == "fp8"
        assert [option["tensor_parallel_size"] for option in answer["alternatives"][:2]] == [4, 8]
        reasons = {each["layout"]: each["reason"] for each in answer["rejected"]}
        assert "64 attention heads" in reasons["TP 3 x PP 1"]
        assert any("MiB short" in reason for reason in reasons.values())


async def test_a_monstrous_inventory_is_answered(nats_server: NatsServer, tmp_path: Path) -> None:
    hosts = [
        {
            "node_id": f"n{number}",
            "hostname": "n",
            "gpus": [
                {"index": n, "name": f"card {number}-{n % 7}", "vram_mb": 24_000 + n} for n in range(300)
            ],
        }
        for number in range(40)
    ]
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        body = {"model_name": "meta-llama/Llama-3.1-405B", "inventory": hosts}
        answer = await client.post("/api/v1/vllm/plan", json=body)
        assert answer.status_code == 200
        assert answer.json()["explanation"]


async def test_models_and_strategies(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        models = (await client.get("/api/v1/vllm/models?fits=true")).json()["models"]
        named = {model["model_name"]: model for model in models}
        assert (named[SMOLLM]["local"], named[SMOLLM]["fits"]) == (True, True)
        assert named["meta-llama/Llama-3-70B"]["fits"] is False
        assert named[SMOLLM]["context"] >= 512
        assert [model["fits"] for model in models] == sorted((m["fits"] for m in models), reverse=True)
        strategies = (await client.get("/api/v1/vllm/strategies")).json()["strategies"]
        assert "tp" in next(s for s in strategies if s["strategy"] == "TENSOR_PARALLEL")["aliases"]


async def test_only_loopback_may_be_attached(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        for endpoint in ("http://169.254.169.254/v1", "http://example.org", "http://127.0.0.1:1/admin?x"):
            answer = await client.post("/api/v1/vllm/attach", json={"endpoint": endpoint, "model_name": "m"})
            assert answer.status_code == 422


async def test_nats_away_and_back(nats_server: NatsServer, tmp_path: Path) -> None:
    nats_server.stop()
    service = orchestrator(nats_server, tmp_path, NATS_WAIT_SECONDS=0.1)
    async with serving(service) as client:
        assert (await client.get("/healthz")).json()["status"] == "degraded"
        assert (await client.get("/readyz")).status_code == 200
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM})
        assert answer.status_code == 503
        nats_server.start()

        async def health() -> str:
            return str((await client.get("/healthz")).json()["status"])

        await until(health, lambda status: status == "healthy", 15)
        body = {"model_name": SMOLLM, "auto_start": False}
        assert (await client.post("/api/v1/vllm/deploy", json=body)).status_code == 202


async def test_a_node_without_an_orchestrator_is_unknown(nats_server: NatsServer, tmp_path: Path) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": SMOLLM, "node_id": "nobody"})
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:compute:error:unknown-node"
