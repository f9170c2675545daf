"""The real binary of this host in a planned command line."""

import shutil

from compute_common.enums import EngineKind
from compute_common.problems import Problem
from vllm_orchestrator.engines.binary import LlamaServers
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.rendering.argv import known_words


async def equip(record: Record, llama: LlamaServers) -> None:
    """Put this host's engine into the argv. Raises Problem 503 saying what is missing."""
    if record.engine is EngineKind.LLAMA_CPP:
        server = await llama.ready()
        record.command = [str(server.path), *known_words(record.command[1:], server.flags)]
        return
    record.command = [vllm_binary(), *record.command[1:]]


def vllm_binary() -> str:
    """Where `vllm` is on this host. Raises Problem 503."""
    binary = shutil.which("vllm")
    if binary is None:
        raise Problem(
            503,
            "no-engine",
            "vllm is not on PATH of this host: install it, or deploy with auto_start false and run the"
            " generated compose file",
        )
    return binary
