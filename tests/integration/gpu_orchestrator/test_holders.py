"""Which process a reservation is bound to: the one that was meant, not a stranger with its pid."""

import os

import psutil
import pytest

from compute_common.problems import Problem
from gpu_orchestrator.processes import holder_of_pid


def test_a_process_is_named_by_pid_and_start() -> None:
    me = psutil.Process()
    assert holder_of_pid(os.getpid(), me.create_time()).pid == os.getpid()
    assert holder_of_pid(os.getpid()).start_ticks == holder_of_pid(os.getpid(), me.create_time()).start_ticks


def test_a_stranger_with_the_pid_is_refused() -> None:
    with pytest.raises(Problem, match="no living process") as caught:
        holder_of_pid(os.getpid(), psutil.Process().create_time() - 60)
    assert caught.value.cause == "no-such-process"
