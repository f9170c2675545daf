"""Writes what a release leaves behind, from its real services: `python -m tests.support.old_state FOLDER`.

Run at each release on that release's code; the tests of later ones read the folder. Nothing of the machine it
was made on stays in it: paths and host names are replaced.
"""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import nats
from nats.js import JetStreamContext

from compute_common import jetstream
from tests.support.suite import RunningSuite, demo_model, wait_for
from tests.support.waiting import until

HOME, PREFIX, HOST = "/srv/compute", "/opt/compute", "old-host"
_ADDRESS = re.compile(r'("ipv4": ?")[0-9.]+')
BUCKETS = (jetstream.NODES_BUCKET, jetstream.DRAINS_BUCKET, jetstream.INSTANCES_BUCKET)
LEDGER = Path("gpu-orchestrator/ledger.sqlite3")
MARKER = "gpu-orchestrator.journal-id"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        suite = RunningSuite(
            Path(scratch) / "home", NODE_ID=HOST, WORK_SNAPSHOT_RECORDS="1", WORK_PURGE_SECONDS="8"
        )
        suite.start()
        try:
            _live(suite)
            asyncio.run(_dump(suite, folder))
        finally:
            suite.stop()
        _files(suite.home, folder)


def _live(suite: RunningSuite) -> None:
    """An instance, a benchmark of it, work in every state, a drained node, a reservation."""
    model = demo_model()
    assert model is not None, "the wheel with the small model is not installed"
    shutil.copy(model, suite.home / "models" / "smollm2.gguf")
    deploy = {"model_name": "smollm2.gguf", "instance_name": "old-instance", "max_model_len": 512}
    suite.post("vllm-orchestrator", "/api/v1/vllm/deploy", deploy)
    path = "/api/v1/vllm/instances/old-instance"
    wait_for(lambda: suite.get("vllm-orchestrator", path)["status"] == "ready", 120)
    run = {
        "model_name": "smollm2",
        "instance_name": "old-instance",
        "context_lengths": [32],
        "output_tokens": 4,
        "repeats": 1,
        "warmup": 0,
    }
    benchmark = suite.post("benchmark-runner", "/api/v1/benchmark/run", run)["benchmark_id"]
    wait_for(
        lambda: suite.get("benchmark-runner", f"/api/v1/benchmark/{benchmark}")["status"] == "completed", 120
    )
    drained = {"node_id": "drained.node", "hostname": "d", "cpu": {"cores": 4}, "labels": {"room": "a"}}
    suite.post("node-registry", "/api/v1/nodes/register", drained)
    suite.post("node-registry", "/api/v1/nodes/drained.node/drain", {})
    prompt = {"prompt": "Once", "max_tokens": 2}
    done = {"work_id": "done", "work_type": "inference", "model_name": "smollm2.gguf", "payload": prompt}
    for body in (
        done,
        {"work_id": "waiting", "work_type": "nobody-does-this", "priority": 3, "payload": {"n": [1, "ü"]}},
        {"work_id": "cancelled", "work_type": "nobody-does-this"},
    ):
        suite.post("work-marshaling", "/api/v1/work/submit", body)
    suite.request("DELETE", "work-marshaling", "/api/v1/work/cancelled")
    wait_for(lambda: suite.get("work-marshaling", "/api/v1/work/done")["status"] == "completed", 60)
    reserve = {"gpu_indices": [], "required_mb": 64, "timeout_seconds": 86_400, "owner": "old-owner"}
    suite.post("gpu-orchestrator", "/api/v1/gpu/reserve", reserve)


async def _dump(suite: RunningSuite, folder: Path) -> None:
    client = await nats.connect(suite.nats_url)
    try:
        js = client.jetstream()
        records = [each async for each in _log(js)]  # before it is cut behind a snapshot
        (folder / "work-log.json").write_text(_clean(json.dumps(records, indent=1), suite.home))
        (folder / "work-snapshot.bin").write_bytes(await _snapshot(js, records[-1]["seq"]))
        found: dict[str, dict[str, Any]] = {}
        for bucket in BUCKETS:
            values = await js.key_value(bucket)
            found[bucket] = {
                key: json.loads((await values.get(key)).value or b"null") for key in await values.keys()
            }
        (folder / "buckets.json").write_text(_clean(json.dumps(found, indent=1, sort_keys=True), suite.home))
    finally:
        await client.close()


async def _snapshot(js: JetStreamContext, seq: int) -> bytes:
    """The first snapshot that reaches to `seq`."""
    store = await js.object_store(jetstream.SNAPSHOTS_BUCKET)

    async def found() -> list[str]:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            return [
                str(each.name)
                for each in await store.list()
                if json.loads(each.description or "{}").get("position", 0) >= seq
            ]
        return []

    async def there() -> bool:
        return bool(await found())

    await until(there, 60)
    return (await store.get((await found())[0])).data or b""


async def _log(js: JetStreamContext) -> Any:
    """Every record that the log still has, with its place and the sequence it follows."""
    state = (await js.stream_info(jetstream.WORK_STREAM)).state
    for seq in range(state.first_seq, state.last_seq + 1):
        try:
            message = await js.get_msg(jetstream.WORK_STREAM, seq)
        except nats.js.errors.NotFoundError:
            continue
        follows = (message.headers or {}).get("Nats-Expected-Last-Subject-Sequence")
        yield {
            "seq": seq,
            "time": message.time.timestamp() if message.time else 0.0,
            "subject": message.subject,
            "body": (message.data or b"").decode(),
            "follows": int(follows) if follows else None,
        }


def _files(home: Path, folder: Path) -> None:
    for result in (home / "benchmarks").glob("*.json"):
        (folder / "benchmark.json").write_text(_clean(result.read_text(), home))
    shutil.copy(home / LEDGER, folder / "ledger.sqlite")
    shutil.copy(home / MARKER, folder / "ledger-marker")
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        for key, document in db.execute("SELECT reservation_id, document FROM reservations").fetchall():
            db.execute(
                "UPDATE reservations SET document = ? WHERE reservation_id = ?", (_clean(document, home), key)
            )
    db.close()


def _clean(text: str, home: Path) -> str:
    text = text.replace(str(home), HOME).replace(sys.prefix, PREFIX).replace(socket.gethostname(), HOST)
    return _ADDRESS.sub(r"\g<1>192.0.2.7", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
