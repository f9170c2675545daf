"""State that 0.1.0 left behind, written by its real services, read by the code of today.

`python -m tests.support.old_state FOLDER` makes such a folder at a release; none is made again for an old
one: it is the witness of what that one wrote.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmark_runner.store import RunStore
from compute_common.bus import Bus
from compute_common.enums import WorkStatus
from compute_common.jetstream import (
    DRAINS_BUCKET,
    INSTANCES_BUCKET,
    NODES_BUCKET,
    ensure_bucket,
)
from gpu_orchestrator.journal import Journal
from node_registry.records import Moment
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from node_registry.stored import from_stored
from tests.integration.vllm_orchestrator.hosts import orchestrator
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until
from vllm_orchestrator.instances.record import Record as InstanceRecord
from work_marshaling.events import Record
from work_marshaling.kept import Limits
from work_marshaling.snapshot import restored
from work_marshaling.state import WorkState

FOLDERS = sorted(Path(__file__).parents[1].joinpath("data").glob("state-*"))
ENDS = {"done": WorkStatus.COMPLETED, "waiting": WorkStatus.PENDING, "cancelled": WorkStatus.CANCELLED}


@pytest.fixture(params=FOLDERS, ids=lambda path: str(path.name))
def old(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def ends(state: WorkState) -> dict[str, WorkStatus]:
    return {name: state.items[name].status for name in ENDS if name in state.items}


def test_there_is_some() -> None:
    assert [folder.name for folder in FOLDERS][:1] == ["state-0.1.0"]


def test_the_work_log(old: Path) -> None:
    state = WorkState(Limits())
    for each in loaded(old / "work-log.json"):
        body, follows = each["body"].encode(), each["follows"]
        state.apply(Record(each["seq"], each["time"], each["subject"], body, follows))
    assert ends(state) == ENDS
    assert not state.ignored


def test_the_snapshot_of_the_fold(old: Path) -> None:
    *_parts, state = restored((old / "work-snapshot.bin").read_bytes(), Limits())
    assert ends(state) == ENDS


def test_every_node_record(old: Path) -> None:
    at = Moment(100.0, datetime(2030, 1, 1, tzinfo=UTC))
    nodes = loaded(old / "buckets.json")[NODES_BUCKET]
    read = {key: from_stored(json.dumps(value).encode(), at) for key, value in nodes.items()}
    assert {record.document.node_id for record in read.values()} == {"old-host", "drained.node"}
    assert read["old-host"].measured, "what the benchmark told of it"


async def test_the_registry_goes_on_with_the_buckets(old: Path, nats_server: NatsServer, bus: Bus) -> None:
    buckets = loaded(old / "buckets.json")
    for name in (NODES_BUCKET, DRAINS_BUCKET):
        values = await ensure_bucket(bus.jetstream(), name)
        for key, value in buckets[name].items():
            await values.put(key, json.dumps({**value, "v": 2, "tomorrow": [1]}).encode())
        await values.put("broken", b'{"v": 9, "shape": "of tomorrow"}')
    settings = RegistrySettings.model_validate({"NATS_URL": nats_server.url, "NODE_ID": "new"})
    async with serving(NodeRegistry(settings)) as client:

        async def known() -> bool:
            return bool((await client.get("/api/v1/stats")).json()["total_nodes"] == 2)

        await until(known)
        drained = (await client.get("/api/v1/nodes/drained.node")).json()
        assert drained["is_draining"]
        assert drained["labels"] == {"room": "a"}
        assert (await client.get("/healthz")).status_code == 200, (
            "the newer record it cannot read costs nothing"
        )


def test_every_instance_record(old: Path) -> None:
    for value in loaded(old / "buckets.json")[INSTANCES_BUCKET].values():
        for written in (value, {**value, "v": 9, "tomorrow": {"x": 1}}):
            record = InstanceRecord.model_validate(written)
            assert record.instance_name == "old-instance"
            assert record.reservations
            assert record.public().status.value == "ready"


async def test_an_orchestrator_goes_on_with_the_instances(
    old: Path, nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    ((key, written),) = loaded(old / "buckets.json")[INSTANCES_BUCKET].items()
    values = await ensure_bucket(bus.jetstream(), INSTANCES_BUCKET)
    await values.put(key, json.dumps(written).encode())
    await values.put("broken", b'{"v": 9, "shape": "of tomorrow"}')
    async with serving(orchestrator(nats_server, tmp_path / "home", "new")) as client:

        async def known() -> bool:
            return bool((await client.get("/readyz")).status_code == 200)

        await until(known)
        found = (await client.get("/api/v1/vllm/instances")).json()["instances"]
    shown = (
        "instance_name",
        "instance_id",
        "node_id",
        "model_name",
        "status",
        "placement",
        "memory",
        "created_at",
    )
    assert [{name: each[name] for name in shown} for each in found] == [
        {name: written[name] for name in shown}
    ]


@pytest.mark.parametrize("later", [False, True], ids=["as it was", "with tomorrow's fields"])
def test_the_ledger_journal(old: Path, tmp_path: Path, later: bool) -> None:
    import sqlite3  # noqa: PLC0415 - only here

    shutil.copy(old / "ledger.sqlite", tmp_path / "ledger.sqlite3")
    shutil.copy(old / "ledger-marker", tmp_path / "marker")
    if later:
        with sqlite3.connect(tmp_path / "ledger.sqlite3") as db:
            db.execute("UPDATE reservations SET document = json_set(document, '$.v', 9, '$.tomorrow', 1)")
        db.close()
    journal = Journal(tmp_path / "ledger.sqlite3", tmp_path / "marker")
    try:
        found = journal.open()
    finally:
        journal.close()
    assert {entry.owner for entry in found.entries} == {"old-owner", "instance:old-instance"}
    assert {entry.reserved_mb for entry in found.entries} >= {64}


def test_the_results_of_benchmarks(old: Path, tmp_path: Path) -> None:
    shutil.copy(old / "benchmark.json", tmp_path / "first.json")
    (tmp_path / "later.json").write_text(json.dumps({"v": 9, "shape": "of tomorrow"}))
    (run,) = RunStore(tmp_path).load()
    assert run.status.value == "completed"
    assert run.cells[0].output_tokens_per_s > 0
