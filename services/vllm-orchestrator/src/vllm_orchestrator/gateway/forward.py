"""From a request to an engine's answer: choose, ask, and choose another where nothing came back."""

import asyncio
from typing import TYPE_CHECKING

import httpx
import structlog
from starlette.responses import Response
from starlette.types import Receive

from compute_common import tracing
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, not_found, unavailable
from compute_common.tasks import end_tasks
from vllm_orchestrator.gateway.relay import CLIENT_GONE, Relay, disconnected
from vllm_orchestrator.gateway.replicas import Load, engine_model, serving
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.schemas import GatewayModel, GatewayModels, GatewayRequest

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

log = structlog.get_logger("gateway")

TIMEOUT = httpx.Timeout(600, connect=3)
MAX_ERROR_BYTES = 64 << 10
UNENCODED = {"accept-encoding": "identity"}  # handed on as it comes


class Gateway:
    """A replica that dies before its first byte costs the client nothing."""

    def __init__(self, service: "VllmOrchestrator") -> None:
        self._service = service
        self.load = Load()

    def models(self) -> GatewayModels:
        """Every name that an instance answers to now, or once it is woken."""
        found: dict[str, GatewayModel] = {}
        idle = [record for record in self._service.table.all() if record.wakeable]
        for record in [*self._ready(), *idle]:
            for name in record.served_names:
                created = int(record.created_at.timestamp())
                found.setdefault(name, GatewayModel(id=name, created=created, owned_by=record.engine.value))
        return GatewayModels(data=list(found.values()))

    def model(self, name: str) -> GatewayModel:
        """One of `models`, ignoring case. Problem 404."""
        found = [entry for entry in self.models().data if entry.id.lower() == name.lower()]
        if not found:
            raise _nobody(name)
        return found[0]

    async def forward(self, path: str, request: GatewayRequest, receive: Receive) -> Response:
        """The answer of the first replica that sends one; a client that leaves takes its request along."""
        gone = asyncio.create_task(disconnected(receive), name="gateway client")
        asking = asyncio.create_task(self._first_answer(path, request), name="gateway request")
        try:
            await asyncio.wait({gone, asking}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                relay = asking.result()
                relay.gone = gone
                return relay
        except BaseException:
            await end_tasks([gone, asking])
            raise
        await end_tasks([asking])
        if not asking.cancelled() and asking.exception() is None:
            await asking.result().drop()
        return Response(status_code=CLIENT_GONE)

    async def _first_answer(self, path: str, request: GatewayRequest) -> Relay:
        if not serving(self._ready(), request.model):
            await self._service.waker.wake(request.model)
        replicas = self._replicas(request.model)
        refusal: Problem | None = None
        for record in self.load.order(replicas):
            name = record.instance_name
            try:
                return await self._ask(record, path, request)
            except httpx.ReadTimeout as error:
                detail = f"instance '{name}' sent nothing within {TIMEOUT.read:g} s"
                raise Problem(504, "engine-silent", detail) from error
            except httpx.TransportError as error:
                self.load.suspect(name)
                log.warning("replica does not answer", instance=name, reason=type(error).__name__)
            except Problem as problem:
                if problem.status < 500 or refusal is not None or len(replicas) == 1:
                    raise  # the request's own fault, or no accident
                refusal = problem
        raise refusal or unavailable(
            "no-replica", f"none of the {len(replicas)} ready instance(s) of this model answers; try again"
        )

    async def _ask(self, record: Record, path: str, request: GatewayRequest) -> Relay:
        """The answer once its first byte is here. TransportError when none came, Problem on a refusal."""
        name = record.instance_name
        client = self._service.client
        body = request.model_dump() | {"model": engine_model(record, request.model)}
        with self.load.unless_kept(name) as end:
            upstream = client.build_request(
                "POST",
                f"{record.endpoints.api}/{path}",
                json=body,
                headers=tracing.stamped(UNENCODED),
                timeout=TIMEOUT,
            )
            answer = await client.send(upstream, stream=True)
            try:
                if answer.status_code >= 400:
                    raise await _refused(answer)
                rest = answer.aiter_raw()
                first = await anext(rest, b"")
                if not first:
                    raise httpx.RemoteProtocolError("an answer without a byte")
            except BaseException:
                await answer.aclose()
                raise
        return Relay(answer, first, rest, instance=name, end=end)

    def _ready(self) -> list[Record]:
        """Those that may be asked: an address comes from whoever wrote the record."""
        reachable = self._service.settings.reachable_engines
        return [
            record
            for record in self._service.table.all()
            if record.status is InstanceStatus.READY and reachable.allow(record.endpoints.api)
        ]

    def _replicas(self, model: str) -> list[Record]:
        found = serving(self._ready(), model)
        if not found:
            raise _nobody(model)
        return found


async def _refused(answer: httpx.Response) -> Problem:
    """The engine's refusal as a problem, in its own words where it has some."""
    try:
        await answer.aread()
        body = answer.json() if len(answer.content) <= MAX_ERROR_BYTES else {}
        error = body.get("error", body) if isinstance(body, dict) else {}
        said = error.get("message") if isinstance(error, dict) else error
    except (httpx.HTTPError, ValueError):
        said = None
    detail = str(said)[:2000] if said else f"the engine answered {answer.status_code}"
    return Problem(answer.status_code, "engine-refused", detail)


def _nobody(model: str) -> Problem:
    return not_found("no-ready-instance", f"no ready instance serves '{model}'; deploy it, or see /v1/models")
