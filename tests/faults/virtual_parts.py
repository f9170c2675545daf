"""The programs of the virtual cluster: marshalers around the real fold and dispatcher, and nodes."""

from collections import Counter
from typing import Any, cast

from compute_common import subjects
from compute_common.enums import WorkStatus
from compute_node.admission import Admission
from tests.faults.virtual import Actor, Server, World
from work_marshaling.dispatcher import Dispatcher, Draft
from work_marshaling.events import Record
from work_marshaling.fleet import Fleet, NodeView
from work_marshaling.items import Item
from work_marshaling.outcome import Outcome
from work_marshaling.settings import Settings
from work_marshaling.snapshot import Capture, restored
from work_marshaling.state import WorkState

STEP_SECONDS = 0.3
LEASE_SECONDS = 5.0
BEAT_SECONDS = 1.0
OFFLINE_SECONDS = 4.0
SETTINGS = Settings(
    NATS_URL="nats://nowhere:1",
    NODE_ID="virtual",
    WORK_RETRY_MAX=90,
    WORK_RETRY_DELAY=0.2,
    WORK_POISON_NODES=100,
    WORK_SILENCE_SECONDS=3,
    WORK_BLACKLIST_FAILURES=1000,
)


class Registry:
    """Who is there, and by which session; and the lease of the lead."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.beats: dict[str, tuple[float, str, bool]] = {}
        self.holder = ""
        self.until = 0.0

    def beat(self, node_id: str, session: str, leaving: bool) -> None:
        self.beats[node_id] = self.world.now, session, leaving

    def fleet(self) -> Fleet:
        return Fleet(self._view(node_id) for node_id in self.beats)

    def _view(self, node_id: str) -> NodeView:
        at, session, leaving = self.beats[node_id]
        types = frozenset[str]() if leaving else frozenset({"test"})
        online = self.world.now - at < OFFLINE_SECONDS
        return NodeView(node_id, online=online, fenced=True, session=session, work_types=types, slots=3)

    def renew(self, name: str) -> bool:
        if self.holder != name and self.world.now < self.until:
            return False
        self.holder, self.until = name, self.world.now + LEASE_SECONDS
        return True


class _Nodes:
    def __init__(self) -> None:
        self.fleet = Fleet()
        self.answered_at: float | None = 0.0


class _Silent:
    """The dispatcher's own deliveries stay silent: the virtual marshaler tells."""

    leading = False


class Marshaler(Actor):
    """One replica. Its every decision is thought of at one moment and sent at a later one."""

    def __init__(self, world: World, server: Server, registry: Registry, name: str) -> None:
        super().__init__(world)
        self.server, self.registry, self.name = server, registry, name
        self.clock_step = 0.0
        self._saved: bytes | None = None
        self._runs = 0

    def start(self) -> None:
        super().start()
        self._runs += 1
        self.session = f"{self.name}-{self._runs}"
        self.state = WorkState(SETTINGS.limits())
        if self._saved is not None and self.world.chance(0.5):
            *_, self.state = restored(self._saved, SETTINGS.limits())
        self._nodes = _Nodes()
        parts = {"bus": None, "writer": None, "bodies": None, "leader": _Silent(), "nodes": self._nodes}
        self.desk = Dispatcher(SETTINGS, state=self.state, **cast(Any, parts))
        self._trusted_until = 0.0
        self._deciding = self._led = False
        self.do(self.world.random.random(), self._step)

    @property
    def clock(self) -> float:
        return self.world.now + self.clock_step

    @property
    def leading(self) -> bool:
        return self.world.now < self._trusted_until and self.state.leader == self.session

    def save(self) -> None:
        self._saved = b"".join(Capture(self.state).parts())

    def _step(self) -> None:
        self.do(STEP_SECONDS * (0.5 + self.world.random.random()), self._step)
        if self.server.up:
            self._read()
            if not self.world.chance(self.world.weather.lost) and self.registry.renew(self.name):
                self._trusted_until = self.world.now + LEASE_SECONDS * 5 / 6
            if not self.world.chance(self.world.weather.lost):
                self._nodes.fleet = self.registry.fleet()
        led, self._led = self._led, self.leading
        if self.leading and not led:
            self._tell_rest()
        if not self._deciding and self.world.now < self._trusted_until:
            self._decide()

    def _read(self) -> None:
        log, behind = self.server.log, self.world.chance(self.world.weather.late)
        upto = self.world.random.randint(self.state.position, len(log)) if behind else len(log)
        for entry in log[self.state.position : upto]:
            for part in self.state.apply(Record(*entry)).each():
                self.desk.follow(part, self.clock)
                self._follow(part)

    def _follow(self, part: Outcome) -> None:
        if part.event == "assigned" and part.item is not None and self.leading:
            self._tell(part.item, part.item.attempt)

    # --- decisions

    def _decide(self) -> None:
        draft = Draft()
        body: dict[str, Any] = {"decision": "lead"}
        if self.leading:
            draft = self.desk._draft(self.clock)
            if not draft.items:
                return
            body = {"epoch": self.state.epoch, **draft.body()}
        follows = self.state.leadership.decided_seq
        self._deciding = True
        self.do(self.world.delay(), lambda: self._send(body, follows, draft.items))

    def _send(self, body: dict[str, Any], follows: int, items: list[Item]) -> None:
        body = {**body, "by": self.session, "v": 2}
        life = self._life
        self.server.publish(
            subjects.WORK_DECIDED,
            body,
            follows=follows,
            answer=lambda _seq: self._answered(life, items),
        )

    def _answered(self, life: int, items: list[Item]) -> None:
        """Whatever the answer: what the log says is read, and what did not come about is thought of again."""
        if life == self._life:
            self.do(0.0, lambda: self._settle(items))

    def _settle(self, items: list[Item]) -> None:
        if self.server.up:
            self._read()
        self._deciding = False
        for item in items:
            if self.state.items.get(item.work_id) is item:
                self.desk._enlist(item, self.clock)

    # --- telling

    def _tell_rest(self) -> None:
        for item in list(self.state.items.values()):
            if item.status is WorkStatus.ASSIGNED and not item.delivered:
                self._tell(item, item.attempt)

    def _tell(self, item: Item, attempt: int) -> None:
        mine = item.status is WorkStatus.ASSIGNED and item.attempt == attempt
        if not (mine and not item.delivered and self.leading):
            return
        body = {"work_id": item.work_id, "node_id": item.holder, "attempt": attempt, "v": 1}
        body |= {"epoch": self.state.epoch, "session": item.session, "expires_at": "2096-10-02T07:06:40Z"}
        life = self._life

        def answered(seq: int | None) -> None:
            if not seq and life == self._life:
                self.do(0.25, lambda: self._tell(item, attempt))

        message_id = f"a:{item.seq}:{attempt}:{self.state.epoch}"

        def send() -> None:
            self.server.publish(subjects.WORK_ASSIGNED, body, message_id=message_id, answer=answered)

        self.do(self.world.delay(), send)


class Node(Actor):
    """A worker: it admits, runs, reports until the log has it.

    `kinds` of items: ok, flaky, broken, cancelled. An assignment for an earlier run of it is dropped: its
    session is another.
    """

    def __init__(
        self,
        world: World,
        server: Server,
        registry: Registry,
        name: str,
        effects: Counter[tuple[str, int]],
    ) -> None:
        super().__init__(world)
        self.server, self.registry, self.name, self.effects = server, registry, name, effects
        self.kinds: dict[str, str] = {}
        self._runs = 0
        server.listeners.append(lambda subject, body: self.do(0.0, lambda: self._hear(subject, body)))

    def start(self) -> None:
        super().start()
        self._runs += 1
        self.session = f"{self.name}-{self._runs}"
        self._admission = Admission(self.name)
        self._running: dict[str, int] = {}
        self.leaving = False
        self.do(0.0, self._beat)

    def leave(self) -> None:
        """SIGTERM: no more work, what runs is handed back, then the end."""
        self.leaving = True
        self.registry.beat(self.name, self.session, True)
        for work_id, attempt in self._running.items():
            self._report("failed", work_id, attempt, {"error": "leaving", "leaving": True})
        self._running.clear()
        self.do(1.0, self.kill)

    def _beat(self) -> None:
        if self.server.up and not self.world.chance(self.world.weather.lost):
            self.registry.beat(self.name, self.session, self.leaving)
        self.do(BEAT_SECONDS, self._beat)

    def _hear(self, subject: str, body: dict[str, Any]) -> None:
        work_id = body["work_id"]
        if subject == subjects.WORK_CANCELLED:
            self._running.pop(work_id, None)
            return
        attempt = body["attempt"]
        if body.get("session") not in (None, self.session):
            return
        if not self._admission.admit(body["node_id"], work_id, attempt, body["epoch"]):
            return
        if self.leaving:
            self._report("failed", work_id, attempt, {"error": "leaving", "leaving": True})
            return
        self.effects[work_id, attempt] += 1
        self._running[work_id] = attempt
        long = self.world.chance(0.1)
        self.do(8.0 if long else 0.05 + self.world.random.random(), lambda: self._end(work_id, attempt))
        self.do(1.0, lambda: self._renew(work_id, attempt))

    def _renew(self, work_id: str, attempt: int) -> None:
        if self._running.get(work_id) == attempt:
            body = {"work_id": work_id, "node_id": self.name, "attempt": attempt}
            self.server.publish(subjects.WORK_PROGRESS, body)
            self.do(2.0, lambda: self._renew(work_id, attempt))

    def _end(self, work_id: str, attempt: int) -> None:
        if self._running.get(work_id) != attempt:
            return
        del self._running[work_id]
        kind = self.kinds.get(work_id, "ok")
        if kind in ("ok", "cancelled") or (kind == "flaky" and attempt > 2):
            self._report("completed", work_id, attempt, {"result": f"{work_id}:{attempt}"})
        else:
            self._report("failed", work_id, attempt, {"error": "no", "retryable": kind == "flaky"})

    def _report(self, verb: str, work_id: str, attempt: int, more: dict[str, Any]) -> None:
        """Until the log has it; a repetition carries the same message id."""
        body = {"work_id": work_id, "node_id": self.name, "attempt": attempt, **more}
        life = self._life

        def answered(seq: int | None) -> None:
            if not seq and life == self._life:
                self.do(0.5, lambda: self._report(verb, work_id, attempt, more))

        message_id = f"{self.name}:{work_id}:{attempt}"
        self.server.publish(f"compute.work.{verb}.v1", body, message_id=message_id, answer=answered)
