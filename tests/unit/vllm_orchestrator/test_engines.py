"""What an engine's own words and leavings say: its metrics, its segments in /dev/shm, its marks."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from tests.support.waiting import until
from vllm_orchestrator.engines.activity import Activity, activity_of
from vllm_orchestrator.engines.marks import marked_engines, marks
from vllm_orchestrator.engines.process import alive, end, group_members, spawn
from vllm_orchestrator.engines.shared_memory import FOLDER, held_by, sweep

VLLM = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 1.0
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 40.0
vllm:generation_tokens_total{engine="0",model_name="tiny"} 2.0
"""
LLAMA = "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\nllamacpp:tokens_predicted_total 7\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VLLM, Activity(3, 42)),
        (LLAMA, Activity(0, 7)),
        ("<html>", None),
        ("vllm:num_requests_running x", None),
    ],
)
def test_activity(text: str, expected: Activity | None) -> None:
    assert activity_of(text) == expected


@contextmanager
def segment(name: str) -> Iterator[Path]:
    memory = SharedMemory(name, create=True, size=4096)
    path = Path(FOLDER) / name
    try:
        yield path
    finally:
        memory.close()
        if path.exists():
            memory.unlink()


def test_only_segments_of_engines_that_nobody_uses_are_swept() -> None:
    name, other = f"psm_t{os.getpid()}", f"unlike_t{os.getpid()}"
    with segment(name) as path, segment(other) as stranger:
        held = held_by([os.getpid()])
        assert held == {name: path.stat().st_ino}
        assert sweep(held) == []  # this process still has it mapped
        assert sweep({other: stranger.stat().st_ino}) == []
        assert stranger.exists()
        left = Path(FOLDER) / f"vllm_dist_{os.getpid()}-pp:0-[0-1]-cpushm_0"
        left.write_bytes(b"x")  # nobody has it mapped: its processes were killed
        inode = left.stat().st_ino
        assert sweep({left.name: inode + 1}) == []  # the name means another segment now
        assert sweep({left.name: inode}) == [left.name]
        assert not left.exists()
    assert sweep({"../etc/passwd": 1}) == []


async def test_a_marked_engine_is_found_whole_and_ended_whole(tmp_path: Path) -> None:
    """Also where only a child of it is left: the leader dies, the child ignores SIGTERM."""
    owner = f"node {tmp_path}"
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "engine.log"
    engine = spawn([sys.executable, "-c", code, "--port", "18001"], marks(owner, "one", 3), log)
    await until(lambda: len(group_members(engine.pid)) == 2)
    [found] = marked_engines(owner)
    assert (found.instance_name, found.epoch, found.process.pid) == ("one", 3, engine.pid)
    assert (found.leads, found.port) == (True, 18001)
    assert marked_engines(owner + "x") == []
    os.kill(engine.pid, signal.SIGKILL)
    await until(lambda: not alive(engine))
    [left] = marked_engines(owner)
    assert (left.leads, left.process.pid) == (False, engine.pid)
    await end(left.process, 0.2)
    assert group_members(engine.pid) == []
