"""The ledger against a naive model: no overbooking, no leak, no lost reservation, expiry exact."""

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from compute_common.problems import Problem
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM, Holder
from gpu_orchestrator.ledger import Ledger
from tests.unit.gpu_orchestrator.ledgers import T0, ask, gpu, host

TOTAL = 1000
KEYS = (RAM, "GPU-0", "GPU-1", "GPU-2")


@dataclass
class Promise:
    keys: tuple[str, ...]
    mb: int
    deadline: float | None
    used: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """The model is a dict of promises and what each program really uses."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: dict[str, Promise] = {}
        self.foreign = dict.fromkeys(KEYS, 0)
        self.now = 0.0
        self.serial = 0

    def devices(self) -> dict[str, Device]:
        own = {
            key: {name: p.used for name, p in self.model.items() if p.deadline is None and key in p.keys}
            for key in KEYS
        }
        used = {key: self.foreign[key] + sum(own[key].values()) for key in KEYS}
        gpus = [gpu(i, TOTAL, used[f"GPU-{i}"], own_mb=own[f"GPU-{i}"]) for i in range(3)]
        found = host(*gpus, ram_mb=TOTAL)
        found[RAM] = Device(RAM, None, TOTAL, used[RAM], own_mb=own[RAM])
        return found

    def free(self, key: str) -> int:
        promised = sum(max(p.mb, p.used) for p in self.model.values() if key in p.keys)
        return TOTAL - self.foreign[key] - promised

    def pick(self, draw: int) -> str | None:
        names = sorted(self.model)
        return names[draw % len(names)] if names else None

    @rule(
        indices=st.lists(st.integers(0, 2), unique=True, max_size=3),
        mb=st.integers(1, TOTAL + 100),
        seconds=st.integers(1, 50),
    )
    def reserve(self, indices: list[int], mb: int, seconds: int) -> None:
        keys = tuple(f"GPU-{i}" for i in indices) or (RAM,)
        fits = all(self.free(key) >= mb for key in keys)
        self.serial += 1
        name = f"res-{self.serial}"
        at = T0 + timedelta(seconds=self.now)
        try:
            self.ledger.reserve(ask(*indices, mb=mb, seconds=seconds), self.devices(), at, name)
        except Problem as refused:
            assert not fits
            short = {s["device"]: s["available_mb"] for s in refused.extra["shortfall"]}
            labels = {key: "host RAM" if key == RAM else f"GPU {key[-1]}" for key in keys}
            assert short == {labels[key]: max(0, self.free(key)) for key in keys if self.free(key) < mb}
        else:
            assert fits
            self.model[name] = Promise(keys, mb, self.now + seconds)

    @rule(draw=st.integers(0, 99), used=st.integers(0, 400))
    def bind_and_use(self, draw: int, used: int) -> None:
        name = self.pick(draw)
        if name is not None:
            promise = self.model[name]
            room = min(TOTAL - self.devices()[key].used_mb for key in promise.keys) + promise.used
            self.ledger.bind(name, Holder("boot", pid=int(name[4:]), start_ticks=1))
            promise.deadline, promise.used = None, min(used, max(0, room))

    @rule(draw=st.integers(0, 99), seconds=st.integers(1, 50))
    def renew(self, draw: int, seconds: int) -> None:
        name = self.pick(draw)
        if name is not None:
            self.ledger.renew(name, T0 + timedelta(seconds=self.now), seconds)
            if self.model[name].deadline is not None:
                self.model[name].deadline = self.now + seconds

    @rule(draw=st.integers(0, 99))
    def release(self, draw: int) -> None:
        name = self.pick(draw)
        if name is not None:
            self.ledger.release(name)
            del self.model[name]

    @rule(key=st.sampled_from(KEYS), mb=st.integers(0, 300))
    def a_stranger_takes_memory(self, key: str, mb: int) -> None:
        used = self.devices()[key].used_mb - self.foreign[key]
        self.foreign[key] = min(mb, TOTAL - used)

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        ended = {e.reservation_id for e in self.ledger.expire(T0 + timedelta(seconds=self.now))}
        late = {n for n, p in self.model.items() if p.deadline is not None and p.deadline <= self.now}
        assert ended == late
        for name in late:
            del self.model[name]

    @invariant()
    def same_reservations(self) -> None:
        assert {n: (e.devices, e.reserved_mb) for n, e in self.ledger.entries.items()} == {
            n: (p.keys, p.mb) for n, p in self.model.items()
        }

    @invariant()
    def same_memory(self) -> None:
        for key, device in self.devices().items():
            sums = self.ledger.balance(device)
            assert sums.available_mb == max(0, self.free(key))
            assert sums.foreign_mb == self.foreign[key]


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
