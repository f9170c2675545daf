"""One seeded run of the virtual cluster: load, faults, healing, and what must be so at the end."""

from collections import Counter
from dataclasses import dataclass, field

from compute_common import subjects
from tests.faults.hostile import forged, garbage
from tests.faults.verdict import History
from tests.faults.virtual import BEGINNING, Actor, Server, Weather, World
from tests.faults.virtual_parts import SETTINGS, Marshaler, Node, Registry
from work_marshaling.events import Record
from work_marshaling.state import WorkState

TROUBLE_SECONDS = 30.0
HEALING_SECONDS = 600.0
ROOM = 12
EXPECTED = {"broken": ("failed",), "cancelled": ("cancelled", "completed")}


@dataclass
class Run:
    """`complaints` is empty when the cluster kept its promises."""

    seed: int
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    effects: Counter[tuple[str, int]] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


class Cluster:
    def __init__(self, seed: int) -> None:
        self.run = Run(seed)
        self.world = world = World(seed)
        self.server = Server(world)
        self.registry = Registry(world)
        self.marshalers = [Marshaler(world, self.server, self.registry, f"m{n}") for n in range(3)]
        self.nodes = [Node(world, self.server, self.registry, f"n{n}", self.run.effects) for n in range(3)]
        self.kinds: dict[str, str] = {}
        for node in self.nodes:
            node.kinds = self.kinds
        for actor in (*self.marshalers, *self.nodes):
            actor.start()

    # --- load

    def load(self) -> None:
        random = self.world.random
        for number in range(random.randint(8, 40)):
            work_id = f"s{self.run.seed}-{number}"
            self.kinds[work_id] = random.choices(["ok", "flaky", "broken", "cancelled"], [12, 3, 1, 2])[0]
            self.world.later(random.uniform(1, TROUBLE_SECONDS), lambda name=work_id: self._submit(name))  # type: ignore[misc]

    def _submit(self, work_id: str) -> None:
        """By way of a marshaler, which refuses when its queue is full."""
        able = [each for each in self.marshalers if each.alive]
        if not able:
            return
        pending = sum(item.waiting for item in self.world.random.choice(able).state.items.values())
        if pending >= ROOM:
            self.run.refused += 1
            return
        body = {"work_id": work_id, "work_type": "test", "timeout_seconds": 5}

        def answered(seq: int | None) -> None:
            if seq:
                self.run.accepted.append(work_id)
                if self.kinds[work_id] == "cancelled":
                    self.server.publish(subjects.WORK_CANCELLED, {"work_id": work_id})

        self.server.publish(subjects.WORK_SUBMIT, body, message_id=f"submit:{work_id}", answer=answered)

    # --- faults

    def trouble(self) -> None:
        random = self.world.random
        acts = {
            "kill": self._kill,
            "stop": self._stop,
            "leave": self._leave,
            "server": self._server_dies,
            "full": self._full,
            "weather": self._weather,
            "clock": self._clock,
            "hostile": self._hostile,
            "snapshot": self._snapshot,
        }
        for _ in range(random.randint(6, 24)):
            name = random.choice(list(acts))
            self.run.faults[name] += 1
            self.world.later(random.uniform(0.5, TROUBLE_SECONDS), acts[name])

    def _anyone(self) -> Actor:
        """The leader as often as all others together."""
        leaders: list[Actor] = [each for each in self.marshalers if each.alive and each.leading]
        if leaders and self.world.chance(0.5):
            return leaders[0]
        return self.world.random.choice([*self.marshalers, *self.nodes])

    def _kill(self) -> None:
        actor = self._anyone()
        actor.kill()
        self.world.later(self.world.random.uniform(0, 8), lambda: None if actor.alive else actor.start())

    def _stop(self) -> None:
        actor = self._anyone()
        actor.stop()
        self.world.later(self.world.random.uniform(1, 12), actor.go_on)

    def _leave(self) -> None:
        node = self.world.random.choice(self.nodes)
        if node.alive:
            node.leave()
            self.world.later(5.0, lambda: None if node.alive else node.start())

    def _server_dies(self) -> None:
        self.server.up = False
        self.world.later(self.world.random.uniform(0.1, 6), lambda: setattr(self.server, "up", True))

    def _full(self) -> None:
        self.server.full = True
        self.world.later(self.world.random.uniform(1, 8), lambda: setattr(self.server, "full", False))

    def _weather(self) -> None:
        draw = self.world.random.random
        self.world.weather = Weather(draw() * 0.4, draw() * 0.3, draw() * 0.4, draw() * 0.4)
        self.world.later(self.world.random.uniform(2, 12), lambda: setattr(self.world, "weather", Weather()))

    def _clock(self) -> None:
        step = self.world.random.choice([-20.0, -3.0, 3.0, 20.0])
        clocks: list[Server | Marshaler] = [self.server, *self.marshalers]
        self.world.random.choice(clocks).clock_step += step

    def _snapshot(self) -> None:
        marshaler = self.world.random.choice(self.marshalers)
        if marshaler.alive:
            marshaler.save()

    def _hostile(self) -> None:
        random = self.world.random
        for _ in range(random.randint(1, 8)):
            entries = [entry for entry in self.server.log if entry.subject != subjects.WORK_ASSIGNED]
            if entries and self.world.chance(0.4):
                old = random.choice(entries)  # once more, long after, in any order
                self.server.publish(old.subject, old.body)
            elif self.world.chance(0.2):
                self.server.publish(*garbage(random))
            elif self.kinds:
                self.server.publish(*forged(random, random.choice(list(self.kinds))))

    # --- the end

    def heal(self) -> None:
        self.world.weather = Weather()
        self.server.up, self.server.full = True, False
        for actor in (*self.marshalers, *self.nodes):
            actor.go_on()
            if not actor.alive:
                actor.start()

    def settled(self) -> bool:
        """Every item ended, and every replica read it."""
        last = len(self.server.log)
        return all(
            each.alive and each.state.position == last and not any(_open(each.state))
            for each in self.marshalers
        )

    def judge(self) -> None:
        history = History(SETTINGS.limits())
        history.read(self.server.log)
        expected = {name: EXPECTED[kind] for name, kind in self.kinds.items() if kind in EXPECTED}
        self.run.complaints = history.complaints(self.run.accepted, self.run.effects, expected)
        self.run.ignored = history.fold.ignored
        for marshaler in self.marshalers:
            for entry in self.server.log:
                marshaler.state.apply(Record(*entry))
            if marshaler.state.items != history.fold.items:
                self.run.complaints.append(f"{marshaler.name} sees other items than the log has")


def _open(state: WorkState) -> list[str]:
    return [name for name, item in state.items.items() if not item.status.final]


def played(seed: int) -> Run:
    """The whole run of a seed."""
    cluster = Cluster(seed)
    cluster.load()
    cluster.trouble()
    cluster.world.run(BEGINNING + TROUBLE_SECONDS)
    cluster.heal()
    cluster.world.run(BEGINNING + TROUBLE_SECONDS + 15)
    cluster.heal()  # what a late fault brought down
    cluster.world.run(BEGINNING + TROUBLE_SECONDS + HEALING_SECONDS, cluster.settled)
    cluster.judge()
    return cluster.run
