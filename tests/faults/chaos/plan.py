"""What is broken when, drawn from a seed. Pure: a seed and a length are a plan."""

from dataclasses import dataclass
from random import Random

HOSTS = 3
# How often each is struck, and what may happen to it. `host 0/engine` is whatever llama-server runs there.
CENTRE = {"nats": 3, "registry": 2, "marshaler": 2}
COPIES = {"nats": 3, "registry": 2, "marshaler": 2}
ON_HOST = {
    "worker": 2,
    "resource-detector": 1,
    "gpu-orchestrator": 2,
    "vllm-orchestrator": 2,
    "compute-node": 2,
    "engine": 2,
    "supervisor": 1,
    "link": 4,
    "clock": 1,
    "disk": 1,
}
CLOCKS = ("registry", "marshaler")  # copies stand for machines of their own
LONGEST_STOP_SECONDS = 8.0  # past every lease of ours (6 s) and past most time limits
LONGEST_CUT_SECONDS = 14.0  # past the registry's patience and the orchestrator's takeover
LONGEST_BEND_SECONDS = 20.0
SHIFT_SECONDS = 30.0  # a clock jumps that far, forth or back, and back again
SYNC_SECONDS = 0.5  # so long each fsync takes on a bad disk


@dataclass(frozen=True)
class Fault:
    """`act`: kill, stop (SIGSTOP), cut (a host's network), shift (a clock) or slow (a disk).

    All but a kill is undone after `seconds`. `by`: how far the clock jumps, how much longer an fsync takes.
    """

    at: float
    act: str
    target: str
    seconds: float = 0.0
    by: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        amount = f" by {self.by:.1f} s" if self.by else ""
        return f"{self.at:5.1f} s {self.act} {self.target}{amount}{lasting}"


# What may happen to a part of a machine, and for how long; to a process: a kill or a stop.
ACTS = {"link": "cut", "clock": "shift", "disk": "slow"}
LONGEST = {
    "kill": 0.0,
    "stop": LONGEST_STOP_SECONDS,
    "cut": LONGEST_CUT_SECONDS,
    "shift": LONGEST_BEND_SECONDS,
    "slow": LONGEST_BEND_SECONDS,
}


def plan(seed: int, seconds: float, gap_seconds: float) -> list[Fault]:
    """In order of time, all over after `seconds`; gaps are drawn around `gap_seconds`, faults overlap."""
    random = Random(seed)  # noqa: S311 - a seed is a run
    weights = _weights()
    faults: list[Fault] = []
    at = random.uniform(0, gap_seconds)
    while at < seconds - 1:
        target = random.choices(list(weights), list(weights.values()))[0]
        act = ACTS.get(target.rpartition("/")[2]) or random.choice(["kill", "kill", "stop"])
        lasting = min(random.uniform(1.0, LONGEST[act]), seconds - at) if LONGEST[act] else 0.0
        jump = random.choice([-1, 1]) * random.uniform(1.0, SHIFT_SECONDS)
        by = {"shift": jump, "slow": SYNC_SECONDS}.get(act, 0.0)
        faults.append(Fault(at, act, target, lasting, by))
        at += random.uniform(0.3, 1.7) * gap_seconds
    return faults


def _weights() -> dict[str, float]:
    """Every target by name; the copies of a service in the centre share its weight."""
    centre = {
        f"{name} {copy}": weight * HOSTS / COPIES[name]
        for name, weight in CENTRE.items()
        for copy in range(COPIES[name])
    }
    clocks = {f"{name} {copy}/clock": 0.5 for name in CLOCKS for copy in range(COPIES[name])}
    hosts = {
        f"host {host}/{name}": float(weight) for host in range(HOSTS) for name, weight in ON_HOST.items()
    }
    return centre | clocks | hosts
