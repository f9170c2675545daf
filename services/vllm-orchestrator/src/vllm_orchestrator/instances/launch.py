"""One start of an engine on this host: its port, the engine itself, what the record says of it."""

import structlog

from compute_common.enums import EngineKind
from vllm_orchestrator.engines.activity import idle_within
from vllm_orchestrator.engines.runtime import Engine, Order, Runtime, Told
from vllm_orchestrator.instances.endpoints import endpoints_of
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("engine")


def runtime_of(record: Record, tools: Tools) -> Runtime:
    return tools.runtimes.named(record.runtime)


def engine_of(record: Record, tools: Tools) -> Engine | None:
    """The engine that the record names, living or not."""
    if record.container_id is not None:
        return tools.runtimes.docker.engine(record.instance_name, record.container_id)
    file = tools.files.read(record.instance_name)
    process = record.process or (file.process if file is not None else None)
    return tools.runtimes.process.engine(record.instance_name, process) if process is not None else None


async def equip(record: Record, tools: Tools) -> None:
    """Choose its runtime, and put this host's engine into the argv. Problem 503 names what is missing."""
    name, command = await tools.runtimes.equip(record.engine or EngineKind.VLLM, record.command)
    record.runtime = "docker" if name == "docker" else "process"
    record.command = command


def give_port(record: Record, tools: Tools) -> None:
    """The port it had, when that is free; else another, in the argv and the endpoints too."""
    runtime = runtime_of(record, tools)
    port = record.port = runtime.port(record.port, tools.ports_taken())
    at = record.command.index("--port") + 1
    record.command = [*record.command[:at], str(port), *record.command[at + 1 :]]
    record.endpoints = endpoints_of(runtime.public_host(record.instance_name, alone=not record.ranks), port)


async def prepare(record: Record, tools: Tools, told: Told) -> None:
    """Fetch what its runtime lacks."""
    await runtime_of(record, tools).prepare(_order(record), told)


async def start(record: Record, tools: Tools) -> Engine:
    """Start the record's command and note what runs. OSError or Problem when it cannot be started."""
    engine = await runtime_of(record, tools).start(_order(record))
    record.held_by(engine.holder)
    log.info("engine started", instance=record.instance_name, engine=engine.identity, port=record.port)
    return engine


def note_again(record: Record, tools: Tools) -> None:
    """Write the file of an adopted process whose start was cut short before it."""
    if record.process is not None and tools.files.read(record.instance_name) is None:
        tools.runtimes.process.note(_order(record), record.process)


async def drain(record: Record, tools: Tools, limit: float) -> float:
    """Let the engine finish what is under way, `limit` seconds; how long it may take to end after SIGTERM.

    An engine that does not tell gets the whole time after SIGTERM, which vLLM uses (--shutdown-timeout).
    """
    stop = tools.settings.engine_stop_seconds
    idle = await idle_within(tools.client, own_metrics(record, tools), limit)
    if idle is False:
        log.warning("engine is stopped while at work", instance=record.instance_name, waited_seconds=limit)
    return stop + limit if idle is None else stop


async def clear(record: Record, tools: Tools, engine: Engine | None, limit_seconds: float) -> None:
    """Nothing of the engine is left, and the record says so. Raises Problem where it cannot be ended."""
    if engine is not None:
        await engine.end(limit_seconds)
    tools.files.remove(record.instance_name)
    record.held_by({})


def own_host(record: Record, tools: Tools) -> str:
    """Where this host itself reaches the engine."""
    return runtime_of(record, tools).own_host(record.instance_name, alone=not record.ranks)


def own_metrics(record: Record, tools: Tools) -> str:
    return endpoints_of(own_host(record, tools), record.port or 0).metrics or ""


def _order(record: Record) -> Order:
    return Order(
        instance_name=record.instance_name,
        epoch=record.epoch,
        kind=record.engine or EngineKind.VLLM,
        command=record.command,
        environment=record.environment,
        port=record.port or 0,
        alone=not record.ranks,
    )
