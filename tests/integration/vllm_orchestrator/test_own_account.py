"""A host in a NATS account of its own, without JetStream: models run there; it writes its own records."""

import os
from pathlib import Path
from typing import Any

import pytest

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.jetstream import INSTANCES_BUCKET, ensure_bucket
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.compute_cli.accounts import Inside, enter, inside, url_of
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    SMOLLM,
    ledger,
    orchestrator,
    until,
    until_status,
)
from tests.support.apps import serving
from tests.support.hub import HubStandIn
from tests.support.nats import NatsServer
from tests.support.suite import has_engine

FIRST, OWN = "first", "host.own"
REQUEST = {"model_name": SMOLLM, "instance_name": "here", "node_id": OWN, "max_model_len": 512}


class Behind:
    """The server as a host reaches it that has an account."""

    def __init__(self, url: str) -> None:
        self.url = url


@pytest.mark.engine
@pytest.mark.timeout(110)
async def test_a_model_runs_on_a_host_with_an_account_of_its_own(
    nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    if not has_engine():
        pytest.skip("no llama-server; `make setup` installs one")
    there: Any = Behind(url_of(nats_server, await enter(nats_server, OWN)))
    host = orchestrator(there, tmp_path / "own", OWN, NATS_ACCOUNT="node")
    first = orchestrator(nats_server, tmp_path / "first", FIRST)
    async with (
        serving(NodeRegistry(RegistrySettings.model_validate({"NATS_URL": nats_server.url}))),
        ledger(there, tmp_path / "own", OWN),
        serving(first) as client,
        serving(host) as there_client,
    ):
        await host.bus.publish(
            subjects.NODES_ANNOUNCE, {"node_id": OWN, "hostname": "own", "managed": True, "cpu_threads": 2}
        )
        answer = await client.post("/api/v1/vllm/deploy", json=REQUEST)
        assert answer.status_code == 202, answer.text
        ready = await until_status(client, "here", "ready")
        assert (ready["node_id"], ready["placement"][0]["node_id"]) == (OWN, OWN)
        nodes = await bus.request(subjects.NODES_QUERY, {"model": "here"})
        assert [node["node_id"] for node in nodes["nodes"]] == [OWN]
        assert (await there_client.get(f"{INSTANCES}/here")).json()["status"] == "ready"
        ended = await client.delete(f"{INSTANCES}/here")
        assert ended.status_code == 200, ended.text

        async def kept() -> list[str]:
            found = await (await ensure_bucket(bus.jetstream(), INSTANCES_BUCKET)).history("here")
            return [str(entry.operation) for entry in found]

        assert await until(kept, lambda operations: operations == ["DEL"]) == ["DEL"]


async def test_a_host_with_an_account_pulls_from_the_others_before_the_hub(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    hub = HubStandIn({})
    there: Any = Behind(url_of(nats_server, await enter(nats_server, OWN)))
    async with hub.running():
        folder = tmp_path / FIRST / "models" / "acme" / "tiny"
        folder.mkdir(parents=True)
        weights = os.urandom(3_000_000)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "model.safetensors").write_bytes(weights)
        first = orchestrator(
            nats_server,
            tmp_path / "a",
            FIRST,
            VLLM_MODEL_PATH=tmp_path / FIRST / "models",
            HF_ENDPOINT=hub.url,
        )
        own = tmp_path / OWN / "models"
        host = orchestrator(
            there, tmp_path / "b", OWN, VLLM_MODEL_PATH=own, HF_ENDPOINT=hub.url, NATS_ACCOUNT="node"
        )
        async with serving(first), serving(host) as client:
            answer = await client.post("/api/v1/vllm/models/pull", json={"model_name": "acme/tiny"})
            assert answer.status_code == 202, answer.text
            path = f"/api/v1/vllm/models/pull/{answer.json()['pull_id']}"

            async def look() -> dict[str, Any]:
                return dict((await client.get(path)).json())

            done = await until(look, lambda seen: seen["phase"] != "downloading")
            assert (done["phase"], done["source"], done["error"]) == ("done", f"node:{FIRST}", None)
    assert (own / "acme" / "tiny" / "model.safetensors").read_bytes() == weights
    assert hub.asked == []


async def test_a_hostile_host_reads_and_writes_no_record_but_its_own(
    nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    evil = await enter(nats_server, "evil")
    first = orchestrator(nats_server, tmp_path / "first", FIRST)
    async with serving(first) as client, inside(nats_server, evil) as (attacker,):
        planned = {"model_name": SMOLLM, "instance_name": "ours", "auto_start": False}
        assert (await client.post("/api/v1/vllm/deploy", json=planned)).status_code == 202
        ours = first.table.get("ours")
        assert ours is not None
        bucket = await ensure_bucket(bus.jetstream(), INSTANCES_BUCKET)
        before = await bucket.get("ours")

        seen = await asked(attacker, verb="get", name="ours")
        assert seen["record"]["request"] == {}
        assert seen["record"]["endpoints"] == {"api": None, "metrics": None, "health": None}
        assert (await asked(attacker, verb="list"))["records"] == []

        stolen = {**wire_json.parse_object(wire_json.dump(ours)), "node_id": "evil"}
        own_place = [{"node_id": "evil", "gpu_indices": [], "reserved_mb": 1}]
        for record, name in (
            ({**stolen, "placement": own_place}, "ours"),  # take it over
            ({**stolen, "placement": own_place, "node_id": FIRST, "instance_name": "new"}, "new"),
            ({**stolen, "instance_name": "new"}, "new"),  # placed on another host
            (
                {
                    **stolen,
                    "instance_name": "new",
                    "placement": own_place,
                    "ranks": [{"node_id": FIRST, "arguments": ["rm"]}],
                },
                "new",
            ),
        ):
            answer = await asked(attacker, verb="put", name=name, record=record, last=before.revision)
            assert answer.get("status") == 403 or answer.get("revision", 0) is None, answer
            answer = await asked(attacker, verb="put", name=name, record=record)
            assert answer.get("status") == 403 or answer.get("revision", 0) is None, answer
        assert (await asked(attacker, verb="delete", name="ours", last=before.revision))["status"] == 403
        assert (await bucket.get("ours")).revision == before.revision
        assert await bucket.keys() == ["ours"]

        flood = [await asked(attacker, verb="get", name="ours") for _ in range(40)]
        assert 429 in {answer.get("status") for answer in flood}


async def asked(attacker: Inside, **ask: Any) -> dict[str, Any]:
    answer = await attacker.answer(subjects.VLLM_INSTANCES, wire_json.dump(ask), 5)
    assert answer is not None
    return answer
