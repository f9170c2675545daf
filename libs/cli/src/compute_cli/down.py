"""`compute down`: end the suite another terminal runs."""

import json
import signal
import time

import psutil

from compute_cli.suite import Suite

PATIENCE_SECONDS = 10.0


def end_suite(suite: Suite) -> bool:
    """SIGTERM to the `compute up` of this COMPUTE_HOME; False without one; TimeoutError if it stays."""
    path = suite.run_records / "suite.json"
    if not path.exists():
        return False
    try:
        process = psutil.Process(int(json.loads(path.read_text())["pid"]))
        process.send_signal(signal.SIGTERM)
    except (psutil.NoSuchProcess, ValueError, KeyError):
        path.unlink(missing_ok=True)
        return False
    deadline = time.monotonic() + PATIENCE_SECONDS
    while path.exists() and process.is_running():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the suite (pid {process.pid}) does not end")
        time.sleep(0.05)
    return True
