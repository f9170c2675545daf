"""Parts of instances whose head is another host: started, held and ended here at the head's word."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from compute_common.enums import EngineKind
from compute_common.problems import Problem, conflict, invalid
from vllm_orchestrator.engines.runtime import Engine, FoundEngine, Order
from vllm_orchestrator.instances.ledger import RENEW_SECONDS
from vllm_orchestrator.instances.promise import reserve_request
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.roster import Roster
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.schemas import RankOrder, RankRef, RankState

log = structlog.get_logger("engine")

NEEDED = ("serve", "--headless", "--node-rank", "--master-addr")
REFUSED = ("--trust-remote-code", "--api-key")
VARIABLES = ("VLLM_", "NCCL_", "GLOO_", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "DO_NOT_TRACK", "OMP_")


@dataclass
class _Unbound:
    """A reservation that nothing is known to be bound to, and when it is renewed next."""

    reservation_id: str
    due: float


class Parts:
    """One part an instance at most. The record says whether it is still wanted; nobody restarts it here."""

    def __init__(self, roster: Roster, table: InstanceTable, tools: Tools) -> None:
        self._roster = roster
        self._table = table
        self._tools = tools
        self._held: dict[str, tuple[int, Engine]] = {}
        self._unbound: dict[str, _Unbound] = {}

    async def start(self, order: RankOrder) -> RankState:
        """Start a part and bind its memory. Problem where this host cannot."""
        self._check(order)
        name, tools = order.instance_name, self._tools
        runtime, command = await tools.runtimes.equip(EngineKind.VLLM, ["vllm", *order.arguments])
        async with self._roster.lock(name):
            if name in self._roster:
                raise conflict("instance-exists", f"the instance '{name}' itself runs on this host")
            await self._end(name)
            part = Order(name, order.epoch, EngineKind.VLLM, command, order.environment, 0, alone=False)
            engine = await tools.runtimes.named(runtime).start(part)
            self._held[name] = (order.epoch, engine)
            log.info("part started", instance=name, rank=order.rank, engine=engine.identity)
            await self._bind(order, engine)
        return await self.state(RankRef(instance_name=name, epoch=order.epoch))

    async def state(self, ref: RankRef) -> RankState:
        """Whether the part lives."""
        epoch, engine = self._held.get(ref.instance_name, (None, None))
        lives = engine is not None and epoch == ref.epoch and await engine.alive()
        return RankState(instance_name=ref.instance_name, node_id=self._tools.node_id, alive=lives)

    async def stop(self, ref: RankRef) -> RankState:
        """End the part, unless it belongs to a later life of the instance."""
        async with self._roster.lock(ref.instance_name):
            epoch, _engine = self._held.get(ref.instance_name, (0, None))
            if epoch <= ref.epoch:
                await self._end(ref.instance_name)
        return await self.state(ref)

    def adopt(self, found: list[FoundEngine]) -> list[FoundEngine]:
        """After a start: hold the parts among these engines that their records still want."""
        ours = [
            each
            for each in found
            if each.leads and self._wanted(self._table.get(each.instance_name), each.epoch)
        ]
        for each in ours:
            log.info("part adopted", instance=each.instance_name, engine=each.engine.identity)
            self._held[each.instance_name] = (each.epoch, each.engine)
            record = self._table.get(each.instance_name)
            reservation = record.reservations.get(self._tools.node_id) if record else None
            if reservation is not None:  # bound or not: the ledger will say
                self._unbound[each.instance_name] = _Unbound(reservation, 0.0)
        return ours

    def __contains__(self, name: str) -> bool:
        return name in self._held

    async def look(self) -> None:
        """End the parts whose instance was stopped, removed or moved while this host did not hear it.

        The memory of the others is kept for them.
        """
        for name, (epoch, _engine) in list(self._held.items()):
            record = await self._table.fetch(name)
            if not self._wanted(record, epoch):
                log.warning("a part without its instance is ended", instance=name)
                await self.stop(RankRef(instance_name=name, epoch=epoch))
            elif record is not None and name in self._unbound:
                await self._keep(record, self._unbound[name])

    async def _keep(self, record: Record, unbound: "_Unbound") -> None:
        """Renew a reservation that may not be bound. One that is made anew is this host's to let expire."""
        place = next((each for each in record.placement if each.node_id == self._tools.node_id), None)
        if place is None or time.monotonic() < unbound.due:
            return
        unbound.due = time.monotonic() + RENEW_SECONDS
        ask, keep = reserve_request(record, place), self._tools.ledger.keep
        try:
            unbound.reservation_id, bound = await keep(self._tools.node_id, unbound.reservation_id, ask)
        except Problem as problem:
            log.warning("part not renewed", instance=record.instance_name, cause=problem.cause)
            return
        if bound:
            self._unbound.pop(record.instance_name, None)

    def _wanted(self, record: Record | None, epoch: int) -> bool:
        if record is None or record.desired != "ready" or record.epoch != epoch:
            return False
        return any(part.node_id == self._tools.node_id for part in record.ranks)

    async def _bind(self, order: RankOrder, engine: Engine) -> None:
        try:
            await self._tools.ledger.bind(self._tools.node_id, order.reservation_id, engine.holder)
        except Problem as problem:  # the ledger may see other pids
            log.warning("part not bound, renewing", instance=order.instance_name, cause=problem.cause)
            due = time.monotonic() + RENEW_SECONDS
            self._unbound[order.instance_name] = _Unbound(order.reservation_id, due)

    async def _end(self, name: str) -> None:
        self._unbound.pop(name, None)
        _epoch, engine = self._held.pop(name, (0, None))
        if engine is not None:
            await engine.end(self._tools.settings.engine_stop_seconds)

    def _check(self, order: RankOrder) -> None:
        """Only what a head renders: a headless rank of a model that is here."""
        words = order.arguments
        bad = [word for word in words if word.partition("=")[0] in REFUSED]
        if any(word not in words for word in NEEDED) or words[0] != "serve" or len(words) < 2 or bad:
            raise invalid("the arguments are not those of a headless rank of `vllm serve`")
        unknown = [name for name in order.environment if not name.startswith(VARIABLES)]
        if unknown:
            raise invalid(f"a part may not set {', '.join(sorted(unknown))[:200]}")
        model = words[1]
        if not model.startswith("/"):
            return
        root = self._tools.settings.model_root.resolve()
        path = Path(model).resolve()
        if not path.is_relative_to(root) or not path.exists():
            raise conflict(
                "model-not-here",
                f"{Path(model).name} is not in this host's VLLM_MODEL_PATH ({root}): every host of an"
                " instance needs the model at the same path",
            )
