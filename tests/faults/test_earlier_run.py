"""What was given to an earlier run of a worker is not for this one: that went down with it."""

from datetime import UTC, datetime, timedelta

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_node import Job, Worker
from tests.support import waiting
from tests.support.nats import NatsServer


async def test_an_assignment_of_an_earlier_run_is_dropped(nats_server: NatsServer, bus: Bus) -> None:
    worker, ran = Worker("n0", nats_url=nats_server.url, announce=True), list[str]()

    @worker.handles("fault")
    async def run(job: Job) -> None:
        ran.append(job.work_id)

    announced: list[Message] = []

    async def note(message: Message) -> None:
        announced.append(message)

    await bus.subscribe(subjects.NODES_ANNOUNCE, note)
    await bus.flush()
    await worker.start()
    try:
        await waiting.until(lambda: bool(announced))
        for work_id, session in (("old", "run-before"), ("new", worker.presence.document()["session"])):
            await bus.publish(subjects.WORK_ASSIGNED, assignment(work_id, str(session)))
        await waiting.until(lambda: "new" in ran)
    finally:
        await worker.stop()
    assert ran == ["new"]


def assignment(work_id: str, session: str) -> dict[str, object]:
    now = datetime.now(UTC)
    times = {"assigned_at": now, "lease_expires_at": now + timedelta(60), "expires_at": now + timedelta(60)}
    names = {"work_id": work_id, "request_id": work_id, "node_id": "n0", "session": session}
    kind = {"work_type": "fault", "workload_type": "fault", "attempt": 1, "epoch": 1}
    return {**names, **kind, **times}
