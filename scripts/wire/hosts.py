"""Messages to one host: its ledger of memory, its checkup, its logs."""

from compute_common import subjects
from compute_common.schemas import checkup, gpu
from compute_common.schemas.memory import NodeMemoryLevel
from scripts.wire.channel import Channel, Record


def _ledger(verb: str, record: Record, means: str, answer: Record) -> Channel:
    return Channel(
        f"compute.gpu.{verb}.v1.{{node}}",
        "request",
        "anyone",
        "that host's gpu-orchestrator",
        record,
        means,
        answer,
    )


LEDGER = (
    _ledger("reserve", gpu.ReserveRequest, "Reserve memory of one host, all GPUs or none", gpu.Reservation),
    _ledger("renew", gpu.ReservationRef, "Extend a reservation", gpu.Reservation),
    _ledger("bind", gpu.ReservationRef, "Bind it to a pid or container", gpu.Reservation),
    _ledger("release", gpu.ReservationRef, "Give it back", gpu.Reservation),
    _ledger("can-fit", gpu.CanFitRequest, "Where this would fit", gpu.CanFitAnswer),
    _ledger("states", None, "What every GPU and the RAM hold", gpu.GpuStates),
    _ledger("memory", None, "The forecast of RAM and each GPU", gpu.MemoryAnswer),
    _ledger("cordon", gpu.CordonRequest, "An operator takes a card out", gpu.CordonAnswer),
    _ledger("uncordon", gpu.CordonRequest, "And puts it back", gpu.CordonAnswer),
    _ledger("yield", gpu.YieldRequest, "The owner wants cards or RAM back", gpu.Yields),
    _ledger("end-yield", gpu.YieldTarget, "They go back to the cluster", gpu.Yields),
    _ledger("yields", None, "What is yielded now", gpu.Yields),
    Channel(
        "compute.gpu.level.v1.{node}",
        "event",
        "gpu-orchestrator",
        "that host's resource-detector",
        NodeMemoryLevel,
        "The host's memory level, put into its heartbeats",
    ),
    Channel(
        subjects.GPU_STATE,
        "event",
        "gpu-orchestrator",
        "watchers",
        gpu.ReservationEvent,
        "A reservation or a card's health changed",
    ),
    Channel(
        subjects.GPU_MEMORY_WARNING,
        "event",
        "gpu-orchestrator",
        "watchers",
        gpu.MemoryWarning,
        "The memory level changed; at most once a minute and level",
    ),
)
HOSTS = (
    Channel(
        "compute.host.checkup.v1.{node}",
        "request",
        "anyone",
        "that host's resource-detector",
        None,
        "What is wrong with that host, each with one fix; looked at now",
        checkup.Checkup,
    ),
    Channel(
        "compute.host.log.v1.{node}",
        "request",
        "anyone",
        "that host's resource-detector",
        checkup.LogAsk,
        "The end of a program's log there, or what was added since `offset`; 256 KiB at most",
        checkup.ProgramLog,
    ),
)
