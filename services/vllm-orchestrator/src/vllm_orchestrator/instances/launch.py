"""One start of an engine on this host: its port, its process, the file that names it, its bound memory."""

import structlog

from vllm_orchestrator.engines import process as engines
from vllm_orchestrator.engines import shared_memory
from vllm_orchestrator.engines.activity import idle_within
from vllm_orchestrator.engines.files import EngineFile
from vllm_orchestrator.engines.marks import marks
from vllm_orchestrator.engines.ports import free_port, is_free
from vllm_orchestrator.engines.process import EngineProcess, group_members
from vllm_orchestrator.instances.endpoints import endpoints_of
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("engine")


def give_port(record: Record, tools: Tools) -> None:
    """The port it had, when that is free; else another, in the argv and the endpoints too."""
    settings = tools.settings
    taken = tools.ports_taken()
    port = record.port
    if port is None or port in taken or not is_free(settings.engine_bind, port):
        port = free_port(settings.engine_bind, settings.port_range, taken)
    record.port = port
    at = record.command.index("--port") + 1
    record.command = [*record.command[:at], str(port), *record.command[at + 1 :]]
    record.endpoints = endpoints_of(settings.advertise_host, port)


def spawn(record: Record, tools: Tools) -> EngineProcess:
    """Start the record's command and note its process. OSError when it cannot be started.

    The mark in its environment finds it again where we die before the note is written.
    """
    name = record.instance_name
    environment = {**record.environment, **marks(tools.owner, name, record.epoch)}
    process = engines.spawn(record.command, environment, tools.files.log(name))
    record.pid, record.start_time = process.pid, process.start_time
    note(record, tools, {})
    log.info("engine started", instance=name, pid=process.pid, port=record.port)
    return process


def note(record: Record, tools: Tools, shared: dict[str, int]) -> None:
    """Write the engine's file."""
    if record.pid is None or record.start_time is None:
        return
    tools.files.write(
        EngineFile(
            instance_name=record.instance_name,
            pid=record.pid,
            start_time=record.start_time,
            port=record.port or 0,
            argv=record.command,
            epoch=record.epoch,
            shared_memory=shared,
        )
    )


def note_shared_memory(record: Record, tools: Tools) -> None:
    """Remember which segments the engine has, for the day it is killed while nobody looks."""
    if record.pid is None:
        return
    file = tools.files.read(record.instance_name)
    held = shared_memory.held_by(group_members(record.pid))
    if file is not None and file.shared_memory != held:
        note(record, tools, held)


async def drain(record: Record, tools: Tools, limit: float) -> float:
    """Let the engine finish what is under way, `limit` seconds; how long it may take to end after SIGTERM.

    An engine that does not tell gets the whole time after SIGTERM, which vLLM uses (--shutdown-timeout).
    """
    stop = tools.settings.engine_stop_seconds
    idle = await idle_within(tools.client, own_metrics(record, tools), limit)
    if idle is False:
        log.warning("engine is stopped while at work", instance=record.instance_name, waited_seconds=limit)
    return stop + limit if idle is None else stop


async def clear(record: Record, tools: Tools, process: EngineProcess | None, limit_seconds: float) -> None:
    """Nothing of the engine is left, and the record says so."""
    await clear_process(record.instance_name, tools, process, limit_seconds)
    record.pid = record.start_time = None


async def clear_process(name: str, tools: Tools, process: EngineProcess | None, limit_seconds: float) -> None:
    """No member of the engine's group, no shared memory of it, no file."""
    file = tools.files.read(name)
    left = dict(file.shared_memory) if file is not None else {}
    if process is not None:
        left |= shared_memory.held_by(group_members(process.pid))
        await engines.end(process, limit_seconds)
    swept = shared_memory.sweep(left)
    if swept:
        log.info("shared memory swept", instance=name, segments=len(swept))
    tools.files.remove(name)


def loopback(tools: Tools) -> str:
    """Where this host itself reaches its engines."""
    host = tools.settings.engine_bind
    return "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104


def own_metrics(record: Record, tools: Tools) -> str:
    return endpoints_of(loopback(tools), record.port or 0).metrics or ""
