"""A long random life of the pure ledger: after every step nothing is promised that is not there."""

import random
from datetime import timedelta

from compute_common.problems import Problem
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import Holder
from gpu_orchestrator.ledger import Ledger
from tests.unit.gpu_orchestrator.ledgers import T0, ask, gpu, host

OPERATIONS = 100_000
TOTAL = 24_000
CARDS = (0, 1, 2)


def test_nothing_is_overbooked_in_100_000_operations() -> None:
    dice = random.Random(11)  # noqa: S311  (a seed, no secret)
    ledger, devices = Ledger(), host(*(gpu(index, TOTAL) for index in CARDS), ram_mb=TOTAL)
    overbooked = refused = 0
    for number in range(OPERATIONS):
        now = T0 + timedelta(seconds=number)
        refused += not step(ledger, devices, dice, number)
        ledger.expire(now)
        for device in devices.values():
            promised = sum(e.reserved_mb for e in ledger.entries.values() if device.key in e.devices)
            overbooked += max(0, promised - TOTAL)
    assert overbooked == 0
    assert refused > OPERATIONS // 20, "nothing was scarce"


def step(ledger: Ledger, devices: dict[str, Device], dice: random.Random, number: int) -> bool:
    """One random operation; False when it was refused."""
    now = T0 + timedelta(seconds=number)
    living = list(ledger.entries)
    choice = dice.random()
    try:
        if choice < 0.5 or not living:
            indices = dice.sample(CARDS, dice.randint(0, len(CARDS)))
            request = ask(*indices, mb=dice.randint(1, TOTAL // 2), seconds=dice.randint(1, 40))
            ledger.reserve(request, devices, now, f"res-{number}")
        elif choice < 0.7:
            ledger.release(dice.choice(living))
        elif choice < 0.85:
            ledger.renew(dice.choice(living), now, dice.randint(1, 40))
        else:
            ledger.bind(dice.choice(living), Holder("boot", pid=number, start_ticks=1))
    except Problem:
        return False
    return True
