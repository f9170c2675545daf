"""The ledger against a naive model: no overbooking, no leak, no lost reservation, expiry and yields exact."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from compute_common.problems import Problem
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM, Holder
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.orders import Yield
from tests.unit.gpu_orchestrator.ledgers import T0, ask

TOTAL = 1000
CARDS = 5
KEYS = (RAM, *(f"GPU-{i}" for i in range(CARDS)))
POOL = frozenset({RAM, "GPU-3", "GPU-4"})  # two integrated GPUs: they have no memory but the host's
MEMORY = {key: RAM if key in POOL else key for key in KEYS}


@dataclass
class Promise:
    keys: tuple[str, ...]
    mb: int
    deadline: float | None
    used: int = 0

    def draws(self, memory: str) -> int:
        """How often its size is promised of this memory."""
        return sum(MEMORY[key] == memory for key in self.keys)


class LedgerMachine(RuleBasedStateMachine):
    """The model is a dict of promises, what each program really uses, and which devices are taken out.

    Memory that strangers take moves under the ledger's feet, also into what is promised: then nothing new is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: dict[str, Promise] = {}
        self.foreign = dict.fromkeys(MEMORY.values(), 0)
        self.cordoned: set[str] = set()
        self.yielded: dict[str, float] = {}
        self.sick: set[str] = set()
        self.now = 0.0
        self.serial = 0

    def devices(self) -> dict[str, Device]:
        return {key: self.device(key) for key in KEYS}

    def device(self, key: str) -> Device:
        memory = MEMORY[key]
        own = {n: p.used for n, p in self.model.items() if p.deadline is None and p.draws(memory)}
        return Device(
            key=key,
            index=None if key == RAM else int(key[4:]),
            total_mb=TOTAL,
            used_mb=self.foreign[memory] + sum(own.values()),
            own_mb=own,
            health="lost" if key in self.sick else "ok",
            pool=POOL - {key} if key in POOL else frozenset(),
        )

    def promised(self, memory: str) -> int:
        """A program that outgrew its promise counts with what it uses."""
        return sum(max(p.draws(memory) * p.mb, p.used) for p in self.model.values() if p.draws(memory))

    def free(self, key: str) -> int:
        if key in self.cordoned or key in self.yielded:
            return 0
        return max(0, TOTAL - self.foreign[MEMORY[key]] - self.promised(MEMORY[key]))

    def room(self, key: str, keys: tuple[str, ...]) -> int:
        """What each of `keys` may take of it."""
        return self.free(key) // sum(MEMORY[other] == MEMORY[key] for other in keys)

    def pick(self, draw: int) -> str | None:
        names = sorted(self.model)
        return names[draw % len(names)] if names else None

    @rule(
        indices=st.just([3, 4]) | st.lists(st.integers(0, CARDS - 1), unique=True, max_size=3),
        mb=st.integers(1, TOTAL + 100),
        seconds=st.integers(1, 50),
    )
    def reserve(self, indices: list[int], mb: int, seconds: int) -> None:
        keys = tuple(f"GPU-{i}" for i in indices) or (RAM,)
        out = self.cordoned | self.sick | set(self.yielded)
        fits = all(self.room(key, keys) >= mb and key not in out for key in keys)
        self.serial += 1
        name = f"res-{self.serial}"
        at = T0 + timedelta(seconds=self.now)
        try:
            request = ask(*indices, mb=mb, seconds=seconds, key=f"key of {name}")
            self.ledger.reserve(request, self.devices(), at, name)
        except Problem as refused:
            assert not fits
            if out & set(keys):
                self.refused_as_taken_out(refused, keys)
                return
            short = {s["device"]: s["available_mb"] for s in refused.extra["shortfall"]}
            labels = {key: "host RAM" if key == RAM else f"GPU {key[-1]}" for key in keys}
            room = {key: self.room(key, keys) for key in keys}
            assert short == {labels[key]: mib for key, mib in room.items() if mib < mb}
        else:
            assert fits
            self.model[name] = Promise(keys, mb, self.now + seconds)
            self.not_overbooked(keys)

    def refused_as_taken_out(self, refused: Problem, keys: tuple[str, ...]) -> None:
        assert refused.cause == ("yielded" if set(self.yielded) & set(keys) else "gpu-not-usable")

    def not_overbooked(self, keys: tuple[str, ...]) -> None:
        """What is promised and what strangers use fit side by side at the moment of every promise."""
        for memory in {MEMORY[key] for key in keys}:
            assert self.promised(memory) + self.foreign[memory] <= TOTAL

    @rule(draw=st.integers(0, 99), indices=st.lists(st.integers(0, CARDS - 1), unique=True, max_size=3))
    def the_same_key_again(self, draw: int, indices: list[int]) -> None:
        """A key that lives gives its reservation or a refusal; it never promises a second time."""
        name = self.pick(draw)
        if name is None:
            return
        entry = self.ledger.entries[name]
        again = ask(*indices, mb=entry.reserved_mb, key=entry.idempotency_key)
        at = T0 + timedelta(seconds=self.now)
        if tuple(indices) == entry.gpu_indices:
            assert self.ledger.reserve(again, self.devices(), at, "another") is entry
        else:
            with pytest.raises(Problem, match="use a new key"):
                self.ledger.reserve(again, self.devices(), at, "another")

    @rule(name=st.sampled_from(["res-0", "res-999999", "nobody"]))
    def what_was_never_promised_changes_nothing(self, name: str) -> None:
        at = T0 + timedelta(seconds=self.now)
        attempts: list[Callable[[], object]] = [
            lambda: self.ledger.renew(name, at, 5),
            lambda: self.ledger.bind(name, Holder("boot", pid=1, start_ticks=1)),
            lambda: self.ledger.release(name),
        ]
        for attempt in attempts:
            with pytest.raises(Problem, match="no living reservation"):
                attempt()

    @rule(draw=st.integers(0, 99))
    def bind_to_a_second_holder(self, draw: int) -> None:
        name = self.pick(draw)
        if name is not None and self.model[name].deadline is None:
            with pytest.raises(Problem, match="bound to something else"):
                self.ledger.bind(name, Holder("boot", pid=1, start_ticks=77))

    @rule(key=st.sampled_from(KEYS[1:]), on=st.booleans())
    def cordon(self, key: str, on: bool) -> None:
        self.ledger.orders = self.ledger.orders.with_cordon(key, on)
        (self.cordoned.add if on else self.cordoned.discard)(key)

    @rule(key=st.sampled_from(KEYS), seconds=st.integers(1, 40))
    def an_owner_takes_it_back(self, key: str, seconds: int) -> None:
        until = self.now + seconds
        self.ledger.orders = self.ledger.orders.with_yields([Yield(key, T0 + timedelta(seconds=until))])
        self.yielded[key] = until

    @rule(key=st.sampled_from(KEYS))
    def an_owner_gives_it_back(self, key: str) -> None:
        self.ledger.orders = self.ledger.orders.without_yields([key])
        self.yielded.pop(key, None)

    @rule(key=st.sampled_from(KEYS[1:]), lost=st.booleans())
    def health(self, key: str, lost: bool) -> None:
        (self.sick.add if lost else self.sick.discard)(key)

    @rule(draw=st.integers(0, 99), used=st.integers(0, 400))
    def bind_and_use(self, draw: int, used: int) -> None:
        name = self.pick(draw)
        if name is not None:
            promise = self.model[name]
            room = min(TOTAL - self.device(key).used_mb for key in promise.keys) + promise.used
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

    @rule(memory=st.sampled_from(sorted(set(MEMORY.values()))), mb=st.integers(0, TOTAL))
    def a_stranger_takes_memory(self, memory: str, mb: int) -> None:
        used = self.device(memory).used_mb - self.foreign[memory]
        self.foreign[memory] = min(mb, TOTAL - used)

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        ended = {e.reservation_id for e in self.ledger.expire(T0 + timedelta(seconds=self.now))}
        late = {n for n, p in self.model.items() if p.deadline is not None and p.deadline <= self.now}
        assert ended == late
        for name in late:
            del self.model[name]
        back = {each.device for each in self.ledger.end_yields(T0 + timedelta(seconds=self.now))}
        assert back == {key for key, until in self.yielded.items() if until <= self.now}
        for key in back:
            del self.yielded[key]

    @invariant()
    def same_orders(self) -> None:
        assert self.ledger.cordoned == self.cordoned | set(self.yielded)

    @invariant()
    def same_reservations(self) -> None:
        assert {n: (e.devices, e.reserved_mb) for n, e in self.ledger.entries.items()} == {
            n: (p.keys, p.mb) for n, p in self.model.items()
        }

    @invariant()
    def same_memory(self) -> None:
        for key, device in self.devices().items():
            sums = self.ledger.balance(device)
            assert sums.available_mb == self.free(key)
            assert sums.foreign_mb == self.foreign[MEMORY[key]]


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
