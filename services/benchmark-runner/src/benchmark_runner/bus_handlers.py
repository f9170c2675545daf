"""`compute.benchmark.{request,status,cancel}.v1`: the REST bodies over NATS."""

from benchmark_runner.conductor import Conductor
from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.schemas.benchmark import (
    BenchmarkAccepted,
    BenchmarkCancelled,
    BenchmarkRef,
    BenchmarkRequest,
)

QUEUE = "benchmark-runner"


async def serve(bus: Bus, conductor: Conductor) -> None:
    async def request(body: Message) -> object:
        run = await conductor.accept(BenchmarkRequest.model_validate(body))
        return BenchmarkAccepted(benchmark_id=run.benchmark_id, status=run.status)

    async def status(body: Message) -> object:
        return conductor.records.find(BenchmarkRef.model_validate(body).benchmark_id)

    async def cancel(body: Message) -> object:
        run = await conductor.cancel(BenchmarkRef.model_validate(body).benchmark_id)
        return BenchmarkCancelled(benchmark_id=run.benchmark_id, status=run.status, cells_kept=len(run.cells))

    await bus.serve(subjects.BENCHMARK_REQUEST, request, QUEUE)
    await bus.serve(subjects.BENCHMARK_STATUS, status, QUEUE)
    await bus.serve(subjects.BENCHMARK_CANCEL, cancel, QUEUE)
