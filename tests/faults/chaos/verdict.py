"""What must hold afterwards: all healthy, one end each, no memory promised to nobody, no stray engine."""

import json
from typing import Any

import httpx
import psutil
from nats.js.errors import NoKeysError

from compute_common.jetstream import INSTANCES_BUCKET
from tests.faults.chaos.cluster import Cluster, answered
from tests.faults.chaos.load import Load
from tests.faults.real_run import AWAY
from tests.faults.rig import entries_after
from tests.faults.verdict import History


async def unhealthy(own: Cluster, client: httpx.AsyncClient, instances: int) -> list[str]:
    """Every service by its own word, every node by each registry's, every instance by its record's."""
    found = []
    for name, url in own.service_urls().items():
        health: Any = await answered(client, f"{url}/healthz")
        if not health or health["status"] != "healthy":
            found.append(f"{name} is {health and health['checks']}")
    for name in (name for name in own.urls if name.startswith("registry")):
        answer: Any = await answered(client, f"{own.urls[name]}/api/v1/nodes")
        seen = {node["node_id"]: node["status"] for node in (answer or {}).get("nodes", [])}
        nodes = [name for machine in own.machines for name in (machine.node_id, machine.worker_id)]
        found += [
            f"{name} says {node} is {seen.get(node)}"
            for node in nodes
            if seen.get(node) not in ("online", "busy")
        ]
    return found + await _not_serving(own, client, instances)


async def _not_serving(own: Cluster, client: httpx.AsyncClient, instances: int) -> list[str]:
    found = []
    for machine in own.machines:
        answer: Any = await answered(client, f"{machine.urls['vllm-orchestrator']}/api/v1/vllm/instances")
        seen = {each["instance_name"]: each["status"] for each in (answer or {}).get("instances", [])}
        if len(seen) != instances or set(seen.values()) - {"ready"}:
            found.append(f"{machine.node_id} sees the instances {seen}")
    return found


async def read_on(own: Cluster, history: History) -> str:
    """Read what is new of the log; why it cannot be read, or nothing."""
    try:
        history.read(await entries_after(own.bus, history.last_seq))
    except AWAY as error:
        return f"the log cannot be read: {error!r}"
    return ""


async def unfinished(own: Cluster, load: Load, history: History) -> list[str]:
    """Items that the log has not ended; reads what is new of it."""
    if trouble := await read_on(own, history):
        return [trouble]
    items = history.model.items
    lost = [f"{work_id} is not in the log" for work_id in load.accepted if work_id not in items]
    return lost + [f"{name} is {item.status}" for name, item in items.items() if not item.ends]


def complaints(own: Cluster, load: Load, history: History) -> list[str]:
    """The history checker over the whole log; the node program counts no runs, its completions stand in."""
    lines = (line.split() for line in own.effects.read_text().splitlines())
    effects: dict[tuple[str, int], int] = {}
    for work_id, attempt in lines:
        effects[work_id, int(attempt)] = effects.get((work_id, int(attempt)), 0) + 1
    for name, item in history.model.items.items():
        if load.kinds.get(name) == "inference" and item.status == "completed":
            effects[name, item.attempt] = 1
    items = history.model.items
    return history.complaints(load.accepted, effects, load.expected()) + load.wrong_results(items)


async def leaks(own: Cluster, client: httpx.AsyncClient) -> list[str]:
    """Reservations that no living instance has, instances without theirs, engines without an instance."""
    try:
        records = await _records(own)
    except AWAY as error:
        return [f"the instances cannot be read: {error!r}"]
    found = []
    for machine in own.machines:
        mine = [record for record in records if record["node_id"] == machine.node_id]
        due = {record["reservations"].get(machine.node_id) for record in mine}
        answer: Any = await answered(client, f"{machine.urls['gpu-orchestrator']}/api/v1/gpu/reservations")
        if answer is None:
            found.append(f"{machine.node_id} does not tell its reservations")
            continue
        held = {each["reservation_id"]: each for each in answer["reservations"]}
        if set(held) != due:
            found.append(
                f"{machine.node_id} holds {sorted(held)} and its instances have {sorted(map(str, due))}"
            )
        for each in held.values():
            pid = (each["bound_to"] or {}).get("pid")
            if each["state"] != "bound" or not psutil.pid_exists(int(pid or -1)):
                found.append(f"{machine.node_id}: {each['reservation_id']} is {each['state']} to {pid}")
    return found + _strays(own, records)


def _strays(own: Cluster, records: list[dict[str, Any]]) -> list[str]:
    known = {record["pid"] for record in records}
    living = {process.pid for process in own.engines()}
    return (
        [] if living == known else [f"engines {sorted(living)} run, records know {sorted(map(str, known))}"]
    )


async def _records(own: Cluster) -> list[dict[str, Any]]:
    bucket = await own.bus.jetstream(5).key_value(INSTANCES_BUCKET)
    try:
        return [json.loads((await bucket.get(key)).value or b"{}") for key in await bucket.keys()]
    except NoKeysError:
        return []
