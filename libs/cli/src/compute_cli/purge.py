"""`compute down --purge`: what the suite keeps in COMPUTE_HOME, all of it, and nothing else."""

import shutil
from collections.abc import Iterable
from pathlib import Path

STATE = frozenset(
    {
        "api-key",
        "api-keys.json",
        "api-keys.lock",
        "benchmarks",
        "containers",
        "docker-proxy.sock",
        "engines",
        "gpu-orchestrator",
        "gpu-orchestrator.journal-id",
        "join.json",
        "lock",
        "logs",
        "models",
        "nats",
        "nats-accounts.conf",
        "nats-ca.pem",
        "nats-compute.secret",
        "nats-kept-out.json",
        "nats-nodes.json",
        "nats-nodes.lock",
        "nats-sys.secret",
        "nats.conf",
        "nats.creds",
        "nats.pid",
        "node-registry",
        "node_id",
        "nodes",
        "run",
        "service.env",
        "vllm-orchestrator",
    }
)


def state_in(home: Path) -> list[Path]:
    """What of the suite is there, a stranger's files left out."""
    return sorted(path for path in home.iterdir() if path.name in STATE) if home.is_dir() else []


def remove(paths: Iterable[Path], home: Path) -> list[Path]:
    """Remove them, a link but not what it leads to, and `home` once it is empty; what is left there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = sorted(home.iterdir()) if home.is_dir() else []
    if home.is_dir() and not home.is_symlink() and not left:
        home.rmdir()
    return left
