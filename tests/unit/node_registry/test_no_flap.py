"""Ten thousand nodes on a virtual clock: jitter, late beats, an outage blame nobody; deaths are noticed."""

import heapq
import random

from node_registry.records import Change
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document

NODES = 10_000
BEAT_SECONDS = 5.0
RUN_SECONDS = 40.0
OUTAGE = (20.0, 23.0)
TICK_SECONDS = 0.25
LATE_SHARE, LATEST_SECONDS = 0.02, 4.0
DEAD = frozenset(range(0, NODES, 1000))
DEATH = 10.0


def arrivals(rng: random.Random) -> list[tuple[float, int]]:
    """When each heartbeat arrives: ±10 % jitter, some late, those of the outage lost, none of the dead."""
    found = []
    for node in range(NODES):
        moment = rng.uniform(0, BEAT_SECONDS)
        while moment < RUN_SECONDS:
            late = rng.uniform(0, LATEST_SECONDS) if rng.random() < LATE_SHARE else 0.0
            arrival = moment + late
            lost = OUTAGE[0] <= arrival < OUTAGE[1] or (node in DEAD and moment >= DEATH)
            if not lost:
                found.append((arrival, node))
            moment += BEAT_SECONDS * rng.uniform(0.9, 1.1)
    heapq.heapify(found)
    return found


def test_nobody_flaps_and_the_dead_are_noticed_within_a_second_of_their_deadline() -> None:
    rng = random.Random(7)  # noqa: S311
    table = NodeTable()
    for node in range(NODES):
        table.announce(document(f"n{node}", heartbeat_seconds=BEAT_SECONDS), at(0))
    waiting, now = arrivals(rng), 0.0
    changes: list[tuple[float, Change]] = []
    heard = dict.fromkeys(DEAD, 0.0)
    while now < RUN_SECONDS:
        now += TICK_SECONDS
        while waiting and waiting[0][0] <= now:
            moment, node = heapq.heappop(waiting)
            changes += [(moment, change) for change in table.heartbeat(beat(f"n{node}"), at(moment)) or []]
            if node in heard:
                heard[node] = moment
        hearing = not OUTAGE[0] <= now < OUTAGE[1]
        changes += [(now, change) for change in table.tick(at(now).mono, hearing)]
    offline = {change.node_id: moment for moment, change in changes if change.event == "offline"}
    assert set(offline) == {f"n{node}" for node in DEAD}
    assert len(changes) == len(DEAD), "nobody came back who was not gone"
    for node in DEAD:
        deadline = heard[node] + 4 * BEAT_SECONDS + 1 + (OUTAGE[1] - OUTAGE[0])  # deafness is not counted
        assert -TICK_SECONDS <= offline[f"n{node}"] - deadline <= 1.0
