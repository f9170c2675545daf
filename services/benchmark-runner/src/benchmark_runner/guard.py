"""`python -m benchmark_runner.guard PROGRAM …`: runs a program and outlives nobody.

The program has a process group of its own, in this process's session. When standard input ends, which it does
also when the runner is killed, the whole group is ended: SIGTERM, after some seconds SIGKILL. Exits with the
program's code (128 + the number of a signal).
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

TERM_SECONDS, LOOK_SECONDS = 5.0, 0.05


def main(argv: list[str]) -> int:
    """Until the program has ended, or nobody holds our standard input any more."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    stopping = {signal.SIGTERM, signal.SIGINT}
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, process_group=0)
    while program.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready and not os.read(0, 4096):
            break
        if woken in ready and stopping & set(os.read(woken, 4096)):
            break
    end_group(program)
    code = program.wait()
    return code if code >= 0 else 128 - code


def end_group(program: "subprocess.Popen[bytes]") -> None:
    """Whatever the program left behind in its group ends too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, number)
        deadline = time.monotonic() + TERM_SECONDS
        while _lives(program) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)


def _lives(program: "subprocess.Popen[bytes]") -> bool:
    program.poll()  # what has ended but was not waited for still counts as a member
    try:
        os.killpg(program.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
