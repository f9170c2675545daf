"""A hostile node in its account, against the real server, registry and marshaler: it harms itself alone."""

import asyncio
import os
import time
from types import SimpleNamespace
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from compute_cli import node_accounts
from compute_cli.nats_accounts import MAX_CONNECTIONS, MAX_PAYLOAD_BYTES, MAX_SUBSCRIPTIONS
from compute_cli.nats_server import system_login as nats_server_login
from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_node import Job, Worker
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.compute_cli.accounts import Inside, enter, inside, is_refused, url_of
from tests.integration.compute_node.test_worker import cluster, working
from tests.integration.work_marshaling.cluster import ended, marshaling, submit
from tests.support import specification, waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer

HONEST, EVIL = "honest.one", "evil"


async def node(bus: Bus, node_id: str) -> dict[str, Any]:
    answer = await bus.request(subjects.NODES_QUERY, {"online_only": False, "include_draining": True})
    found: dict[str, dict[str, Any]] = {str(each["node_id"]): each for each in answer["nodes"]}
    return found.get(node_id, {})


async def known(bus: Bus, node_id: str) -> None:
    async def there() -> bool:
        return bool(await node(bus, node_id))

    await waiting.until(there)


async def test_it_sees_and_completes_nothing_of_another_node(nats_server: NatsServer, bus: Bus) -> None:
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    begun, go = asyncio.Event(), asyncio.Event()
    async with cluster(nats_server.url) as (service, client), inside(nats_server, evil) as (attacker,):
        await attacker.listen()
        worker = Worker(HONEST, nats_url=url_of(nats_server, honest), announce=True)

        @worker.handles("secret")
        async def work(job: Job) -> object:
            begun.set()
            await go.wait()
            return {"told": job.payload["secret"]}

        async with working(worker):
            await known(bus, HONEST)
            assert (await node(bus, HONEST))["own_subjects"] is True
            work_id = await submit(client, work_type="secret", payload={"secret": "s3"})
            await begun.wait()
            for message in _forged_ends(work_id):
                await attacker.say(*message)
            await waiting.until(lambda: sum(service.state.ignored.values()) >= 1)
            assert service.state.items[work_id].holder == HONEST
            go.set()
            item = await ended(client, work_id)
        assert (item["status"], item["result"]) == ("completed", {"told": "s3"})
        assert not [data for subject, data in attacker.heard if b"s3" in data]


def _forged_ends(work_id: str) -> list[tuple[str, dict[str, Any]]]:
    """In every way a client in another account can say that an item ended."""
    token = subjects.token(HONEST)
    body = {"work_id": work_id, "node_id": HONEST, "attempt": 1, "result": "forged", "error": "forged"}
    decided = {"decision": "decide", "by": "evil", "epoch": 1 << 50, "fail": [body]}
    return [
        (subjects.WORK_DECIDED, decided),
        (f"compute.node.{token}.completed", body),
        (f"compute.node.{token}.failed", body),
        (subjects.WORK_CANCEL, {"work_id": work_id}),
        (subjects.WORK_CANCELLED, body),
        (subjects.WORK_FAILED, {**body, "retryable": False}),
        (subjects.WORK_PROGRESS, body),
        (subjects.WORK_COMPLETED, body),
    ]


async def test_it_speaks_for_itself_alone(nats_server: NatsServer, bus: Bus) -> None:
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    async with cluster(nats_server.url), inside(nats_server, honest, evil) as (friend, attacker):
        document = {"node_id": HONEST, "hostname": "true", "slots": 1}
        await friend.say(subjects.NODES_ANNOUNCE, document)
        await friend.say(subjects.NODES_HEARTBEAT, {"node_id": HONEST, "active_jobs": 1})
        await known(bus, HONEST)
        before = await node(bus, HONEST)
        token = subjects.token(HONEST)
        lies: list[tuple[str, dict[str, Any]]] = [
            (subjects.NODES_ANNOUNCE, {**document, "hostname": "forged", "slots": 99}),
            (f"compute.node.{token}.announce", {**document, "hostname": "forged"}),
            (subjects.NODES_HEARTBEAT, {"node_id": HONEST, "active_jobs": 77}),
            (f"compute.node.{token}.heartbeat", {"node_id": HONEST, "active_jobs": 77}),
            (subjects.NODES_REMOVE, {"node_id": HONEST}),
            (subjects.NODES_DRAIN, {"node_id": HONEST, "drain": True}),
            (subjects.VLLM_INSTANCE, {"event": "ready", "node_id": HONEST, "instance": {}}),
            (subjects.NODES_ANNOUNCE, {"node_id": EVIL, "hostname": "evil"}),
        ]
        for lie in lies:
            await attacker.say(*lie)
        await known(bus, EVIL)  # the last word, and the only one that counts
        after = await node(bus, HONEST)
        for name in ("hostname", "slots", "is_draining", "last_heartbeat", "active_jobs"):
            assert after.get(name) == before.get(name), name


async def test_it_reads_no_reply_and_asks_nobody(nats_server: NatsServer, bus: Bus) -> None:
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    async with cluster(nats_server.url), inside(nats_server, honest, evil) as (friend, attacker):
        await attacker.listen()

        async def serve(msg: Any) -> None:
            await msg.respond(b'{"gpus": [], "secret": "s3"}')

        asked = subjects.gpu_subject("states", HONEST)
        of_the_host = subjects.host_subject("checkup", HONEST)
        for subject in (asked, of_the_host):
            await friend.client.subscribe(subject, cb=serve)
            await friend.client.flush()
            assert (await bus.request(subject, {}))["secret"] == "s3"
        await bus.request(subjects.NODES_QUERY, {})
        questions = (asked, of_the_host, subjects.NODES_QUERY, subjects.WORK_STATUS, subjects.VLLM_REQUEST)
        for subject in questions:
            assert await attacker.answer(subject, b"{}", 0.2) is None
        own = (*questions, subjects.NODES_REANNOUNCE)  # which is for everybody
        assert not [subject for subject, _ in attacker.heard if subject not in own], attacker.heard
        assert not [data for _, data in attacker.heard if b"s3" in data]


async def test_it_cannot_touch_jetstream(nats_server: NatsServer, bus: Bus) -> None:
    evil = await enter(nats_server, EVIL)
    async with cluster(nats_server.url), inside(nats_server, evil) as (attacker,):
        js = bus.jetstream()
        before = (await js.stream_info("COMPUTE_WORK")).state.messages
        for subject in (
            "$JS.API.INFO",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.DELETE.COMPUTE_WORK",
            "$JS.API.STREAM.PURGE.COMPUTE_WORK",
            "$JS.API.STREAM.MSG.GET.COMPUTE_WORK",
            "$JS.API.DIRECT.GET.COMPUTE_WORK",
            "$JS.API.CONSUMER.CREATE.COMPUTE_WORK",
            "$KV.COMPUTE_NODES.evil",
            "$KV.COMPUTE_INSTANCES.x",
            "$O.COMPUTE_WORK_RESULTS.M.x",
        ):
            answer = await attacker.answer(subject, b'{"seq": 1}', 0.15)
            assert answer is None or "error" in answer, subject
        assert (await js.stream_info("COMPUTE_WORK")).state.messages == before
        with pytest.raises(nats.errors.Error):
            await bus.client.request("$KV.COMPUTE_INSTANCES.x", b"", timeout=0.2)  # nothing was made either


async def test_it_cannot_starve_the_others(nats_server: NatsServer, bus: Bus) -> None:
    """Connections, subscriptions and payload are limited; a flood in its own name is its own."""
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    async with (
        cluster(nats_server.url) as (service, client),
        inside(nats_server, honest, evil) as (friend, bad),
    ):
        assert bad.client.max_payload == MAX_PAYLOAD_BYTES
        await _too_many_connections(nats_server, evil)
        await _too_many_subscriptions(bad)
        async with inside(nats_server, evil) as (flooding,):
            await flooding.say(subjects.NODES_ANNOUNCE, {"node_id": EVIL, "hostname": "e", "slots": 100_000})
            await known(bus, EVIL)
            held = [await submit(client) for _ in range(20)]
            await waiting.until(lambda: all(service.state.items[each].holder == EVIL for each in held[:1]))
            for number in range(5_000):
                message = {
                    "work_id": f"w-{number % 50}",
                    "node_id": EVIL,
                    "attempt": 1,
                    "progress": "x" * 200,
                }
                await flooding.client.publish(subjects.WORK_PROGRESS, wire_json.dump(message))
            started = time.monotonic()
            await friend.say(
                subjects.NODES_ANNOUNCE, {"node_id": HONEST, "hostname": "h", "work_types": ["own"]}
            )
            await known(bus, HONEST)
            work_id = await submit(client, work_type="own", requirements={"node_id": HONEST})
            await waiting.until(lambda: service.state.items[work_id].holder == HONEST, 10)
            assert time.monotonic() - started < 10
            await friend.say(subjects.WORK_COMPLETED, {"work_id": work_id, "result": 1})
            assert (await ended(client, work_id))["status"] == "completed"


async def _too_many_connections(server: NatsServer, account: Any) -> None:
    """One is open already."""
    async with inside(server, *[account] * (MAX_CONNECTIONS - 1)):
        assert await is_refused(url_of(server, account))


async def _too_many_subscriptions(attacker: Inside) -> None:
    for number in range(MAX_SUBSCRIPTIONS + 1):
        await attacker.client.subscribe(f"x.{number}")
    await waiting.until(lambda: not attacker.client.is_connected)  # thrown out


async def test_a_garbled_answer_is_a_problem_and_no_crash(nats_server: NatsServer, bus: Bus) -> None:
    evil = await enter(nats_server, EVIL)
    answers = iter(
        (b"\xff", b"[1]", b'{"type": "urn:compute:error:x", "status": 200, "cause": "y", "self": 1}')
    )
    async with inside(nats_server, evil) as (attacker,):

        async def garble(msg: Any) -> None:
            await msg.respond(next(answers))

        subject = subjects.gpu_subject("states", EVIL)
        await attacker.client.subscribe(subject, cb=garble)
        await attacker.client.flush()
        for cause in ("bad-answer", "bad-answer", "x"):
            with pytest.raises(Problem) as caught:
                await bus.request(subject, {})
            assert (caught.value.status, caught.value.cause) == (502, cause)


async def test_a_revoked_node_is_cut_off_at_once(nats_server: NatsServer, bus: Bus) -> None:
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    async with inside(nats_server, honest, evil) as (friend, attacker):
        started = time.monotonic()
        node_accounts.revoke(nats_server.home, EVIL)
        assert node_accounts.reload(nats_server.home)
        await waiting.until(lambda: not attacker.client.is_connected, 5)
        assert time.monotonic() - started < 2
        assert await is_refused(url_of(nats_server, evil))
        assert friend.client.is_connected  # nobody else noticed
        assert bus.connected


async def test_the_specifications_worker_runs_unmodified_in_its_account(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It registers over REST and never announces itself; the NATS server tells that it has an account."""
    account = await enter(nats_server, HONEST)
    source = specification.python_block("connect_to_work_marshal")
    seen: list[Any] = []

    async def process_work(item: dict[str, Any]) -> object:
        seen.append(item["node_id"])
        return {"doubled": item["payload"]["n"] * 2}

    connections: list[Client] = []

    async def connect(*arguments: Any, **options: Any) -> Client:
        connections.append(await nats.connect(*arguments, **options))
        return connections[0]

    printed_nats = SimpleNamespace(connect=connect)
    names: dict[str, Any] = {"os": os, "process_work": process_work}
    exec(compile(source, "specification", "exec"), names)  # noqa: S102 - the sample is to run as printed
    names["nats"] = printed_nats
    monkeypatch.setenv("NATS_URL", url_of(nats_server, account))
    settings = {"NATS_URL": nats_server.url, **nats_server_login(nats_server.home)}
    registry = NodeRegistry(RegistrySettings.model_validate({**settings, "NODE_ID": "test-host"}))
    async with serving(registry) as registry_client, marshaling(nats_server.url) as (_, client):
        await names["connect_to_work_marshal"]()
        document = {"node_id": HONEST, "hostname": "h"}
        assert (await registry_client.post("/api/v1/nodes/register", json=document)).status_code == 200

        async def told() -> bool:
            return (await node(bus, HONEST)).get("own_subjects") is True

        await waiting.until(told)
        item = await ended(client, await submit(client, payload={"n": 21}))
        assert (item["status"], item["result"], seen) == ("completed", {"doubled": 42}, [HONEST])
        await connections[0].close()


async def test_it_cannot_fake_anothers_disconnection(nats_server: NatsServer, bus: Bus) -> None:
    """A connection that carries another node's name counts for nobody."""
    evil = await enter(nats_server, EVIL)
    settings = {"NATS_URL": nats_server.url, **nats_server_login(nats_server.home)}
    registry = NodeRegistry(RegistrySettings.model_validate({**settings, "NODE_ID": "test-host"}))
    async with serving(registry) as client:
        for name in (HONEST, EVIL):
            await client.post("/api/v1/nodes/register", json={"node_id": name, "hostname": "h"})
        for name in (HONEST, EVIL):
            liar = await nats.connect(url_of(nats_server, evil), name=name)
            await asyncio.sleep(1.1)  # a briefer one would be nobody's sign of life anyway
            await liar.close()

        async def evil_is_offline() -> bool:
            return bool((await node(bus, EVIL)).get("status") == "offline")

        await waiting.until(evil_is_offline)
        assert (await node(bus, HONEST))["status"] == "online"
