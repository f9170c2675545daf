"""Models brought onto a node's disk: from a Hub over real sockets, and from another node over real NATS."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.hosts import orchestrator, until
from tests.support.apps import serving
from tests.support.hub import HubStandIn
from tests.support.nats import NatsServer
from vllm_orchestrator.service import VllmOrchestrator

PULL = "/api/v1/vllm/models/pull"
NAME = "acme/tiny"
WEIGHTS = os.urandom(3_000_000)
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"never wanted",
    "original/consolidated.pth": b"never wanted",
    ".gitattributes": b"never wanted",
}


def host(
    server: NatsServer, home: Path, hub: HubStandIn, node_id: str = "one", **more: Any
) -> VllmOrchestrator:
    models = home / "models"
    return orchestrator(server, home, node_id, HF_ENDPOINT=hub.url, VLLM_MODEL_PATH=models, **more)


async def pulled(client: httpx.AsyncClient, **body: Any) -> Any:
    """The pull's last word."""
    answer = await client.post(PULL, json={"model_name": NAME, **body})
    assert answer.status_code == 202, answer.text
    node = {"node_id": body["node_id"]} if "node_id" in body else {}

    async def look() -> Any:
        return (await client.get(f"{PULL}/{answer.json()['pull_id']}", params=node)).json()

    return await until(look, lambda seen: seen["phase"] != "downloading", 30)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def test_from_the_hub(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    """What is wanted and nothing else; large files come from the host the Hub names, without the token."""
    store = HubStandIn(models={NAME: MODEL})
    hub = HubStandIn({NAME: MODEL}, token="hf_x", content_host=store)
    async with store.running(), hub.running():
        service = host(nats_server, tmp_path, hub, HF_TOKEN="hf_x")
        async with serving(service) as client:
            done = await pulled(client)
            assert (done["phase"], done["source"], done["error"]) == ("done", "hub", None)
            assert done["bytes_done"] == done["bytes_total"] > len(WEIGHTS)
            folder = Path(done["path"])
            assert folder == tmp_path / "models" / NAME
            assert files(folder) == {"config.json", "tokenizer.json", "model.safetensors"}
            assert (folder / "model.safetensors").read_bytes() == WEIGHTS
            again = await pulled(client)
            assert (again["phase"], again["source"]) == ("done", "here")
            told = await bus.request(subjects.vllm_subject("status", "one"), {}, 5)
            assert NAME in told["local_models"]
    assert {token for _path, _range, token in hub.asked} == {"bearer hf_x"}
    assert {token for _path, _range, token in store.asked} == {None}
    assert files(tmp_path / "models" / ".partial") == set()


async def test_a_cut_connection_is_resumed(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        HubStandIn({NAME: MODEL}, cut_after_bytes=1_000_000, cuts_left=2).running() as hub,
        serving(host(nats_server, tmp_path, hub)) as client,
    ):
        done = await pulled(client)
    assert done["phase"] == "done", done["error"]
    assert (Path(done["path"]) / "model.safetensors").read_bytes() == WEIGHTS
    first, *later = hub.ranges("model.safetensors")
    assert first is None
    assert len(later) == 2
    assert all(int(str(asked).removeprefix("bytes=").rstrip("-")) > 0 for asked in later)


async def test_an_orchestrator_that_ends_goes_on_later(nats_server: NatsServer, tmp_path: Path) -> None:
    async with HubStandIn({NAME: MODEL}, block_seconds=0.05).running() as hub:
        async with serving(host(nats_server, tmp_path, hub)) as client:
            await client.post(PULL, json={"model_name": NAME})

            async def some() -> int:
                return int((await client.get(f"{PULL}/acme--tiny")).json()["bytes_done"])

            await until(some, lambda seen: seen > 200_000)
        assert not (tmp_path / "models" / NAME).exists()
        hub.block_seconds = 0
        async with serving(host(nats_server, tmp_path, hub)) as client:
            done = await pulled(client)
    assert done["phase"] == "done", done["error"]
    assert (Path(done["path"]) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges("model.safetensors")[-1] is not None


@pytest.mark.parametrize("asked", ["one", "two"])
async def test_a_cancelled_pull_goes_on_when_it_is_pulled_again(
    nats_server: NatsServer, tmp_path: Path, asked: str
) -> None:
    """Cancelled on the node itself, and from another one."""
    async with HubStandIn({NAME: MODEL}, block_seconds=0.05).running() as hub:
        one = serving(host(nats_server, tmp_path / "1", hub, "one"))
        two = serving(host(nats_server, tmp_path / "2", hub, "two"))
        async with one as first, two as second:
            client = first if asked == "one" else second
            await first.post(PULL, json={"model_name": NAME})
            node = {"node_id": "one"}

            async def some() -> int:
                answer = await client.get(f"{PULL}/acme--tiny", params=node)
                return int(answer.json()["bytes_done"])

            came = await until(some, lambda seen: seen > 200_000)
            for _twice in range(2):
                ended = (await client.delete(f"{PULL}/acme--tiny", params=node)).json()
                assert (ended["phase"], ended["ended_at"] is None) == ("cancelled", False)
            assert (await client.delete(f"{PULL}/acme--nothing", params=node)).status_code == 404
            hub.block_seconds = 0
            done = await pulled(client, node_id="one")
    assert done["phase"] == "done", done["error"]
    assert (Path(done["path"]) / "model.safetensors").read_bytes() == WEIGHTS
    assert int(str(hub.ranges("model.safetensors")[-1]).removeprefix("bytes=").rstrip("-")) >= came // 2


async def test_a_file_that_is_not_what_was_promised_gets_no_name(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        HubStandIn({NAME: MODEL}, hashes={"model.safetensors": "0" * 64}).running() as hub,
        serving(host(nats_server, tmp_path, hub)) as client,
    ):
        failed = await pulled(client)
    assert failed["phase"] == "failed"
    assert "does not have the size or hash" in failed["error"]
    assert not (tmp_path / "models" / NAME).exists()


@pytest.mark.parametrize(
    ("name", "token", "refusal"),
    [
        ("acme/gated", None, (403, "gated-model", "set HF_TOKEN on this host")),
        ("acme/gated", "hf_wrong", (403, "gated-model", "may not read acme/gated")),
        ("acme/none", None, (404, "unknown-model", "check the id, or, where it is private, set HF_TOKEN")),
        ("no such id", None, (422, "invalid-model", "reads like")),
        ("acme/hostile", None, (502, "hostile-listing", "nothing of it was fetched")),
        ("acme/bins", None, (422, "no-usable-weights", "neither safetensors nor GGUF")),
        ("acme/huge", None, (409, "disk-too-small", "needs 8192.0 GiB more")),
    ],
)
async def test_what_cannot_be_pulled_is_refused_before_anything_is_written(
    nats_server: NatsServer, tmp_path: Path, name: str, token: str | None, refusal: tuple[int, str, str]
) -> None:
    status, cause, says = refusal
    models = {
        NAME: MODEL,
        "acme/gated": MODEL,
        "acme/hostile": {**MODEL, "../../escaped.safetensors": WEIGHTS},
        "acme/huge": {"config.json": b"{}", "huge.safetensors": WEIGHTS},
        "acme/bins": {"config.json": b"{}", "pytorch_model.bin": WEIGHTS},
    }
    hub = HubStandIn(models, gated={"acme/gated"}, token="hf_right", sizes={"huge.safetensors": 1 << 43})
    async with hub.running(), serving(host(nats_server, tmp_path, hub, HF_TOKEN=token)) as client:
        answer = await client.post(PULL, json={"model_name": name})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:compute:error:{cause}"), answer.text
    assert says in answer.json()["detail"]
    assert "hf_" not in answer.text
    assert not {path for path in files(tmp_path / "models") if not path.endswith(".manifest.json")}


async def test_from_another_node_before_the_hub(nats_server: NatsServer, tmp_path: Path) -> None:
    """Asked of one node, for another, whose files come from the first."""
    async with HubStandIn({NAME: MODEL}).running() as hub:
        one = serving(host(nats_server, tmp_path / "1", hub, "one"))
        two = serving(host(nats_server, tmp_path / "2", hub, "two"))
        async with one as first, two as second:
            assert (await pulled(first))["source"] == "hub"
            before = len(hub.asked)
            done = await pulled(first, node_id="two")
            assert (done["phase"], done["source"], done["node_id"]) == ("done", "node:one", "two")
            assert len(hub.asked) == before
            assert (await second.get(PULL)).json()["count"] == 1
            unknown = await first.post(PULL, json={"model_name": NAME, "node_id": "three"})
            assert unknown.json()["type"] == "urn:compute:error:unknown-node"
    copied = tmp_path / "2" / "models" / NAME
    assert files(copied) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (copied / "model.safetensors").read_bytes() == WEIGHTS


async def test_a_node_that_goes_midway_is_replaced_by_the_hub(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The source loses its copy between two pieces."""
    weights = os.urandom(8 << 20)
    async with HubStandIn({NAME: {**MODEL, "model.safetensors": weights}}).running() as hub:
        one = serving(host(nats_server, tmp_path / "1", hub, "one"))
        two = serving(host(nats_server, tmp_path / "2", hub, "two"))
        async with one as first, two as second:
            await pulled(first)
            there = tmp_path / "1" / "models" / NAME / "model.safetensors"
            with there.open("r+b") as file:  # listed whole, sends less: as a file that is being replaced
                started = await second.post(PULL, json={"model_name": NAME})
                file.truncate(1000)
            assert started.status_code == 202
            done = await pulled(second)
    assert done["phase"] == "done", done["error"]
    assert (Path(done["path"]) / "model.safetensors").read_bytes() == weights


async def test_nothing_but_a_models_files_is_handed_out(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    models = tmp_path / "models"
    (models / NAME).mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    for name, content in (("config.json", b"{}"), ("model.safetensors", b"w")):
        (models / NAME / name).write_bytes(content)
    (models / NAME / "link.json").symlink_to(tmp_path / "secret")
    (models / NAME / ".hidden").write_text("hidden")
    subject = subjects.vllm_subject("files", "one")
    async with HubStandIn().running() as hub, serving(host(nats_server, tmp_path, hub)):
        for name, path in (
            (NAME, "../../secret"),
            (NAME, "link.json"),
            (NAME, ".hidden"),
            (NAME, "/etc/passwd"),
            ("acme", "tiny/config.json"),
            ("../..", "secret"),
            (NAME, None),
        ):
            ask = {"model_name": name, "path": path}
            reply = await bus.client.request(
                subject, wire_json.dump({k: v for k, v in ask.items() if v}), timeout=5
            )
            assert b"urn:compute:error:" in reply.data, (name, path, reply.data)
            assert b"secret" not in reply.data.split(b'"detail"')[0]
        whole = wire_json.dump({"model_name": NAME, "path": "model.safetensors"})
        assert (await bus.client.request(subject, whole, timeout=5)).data == b"\x00w"
