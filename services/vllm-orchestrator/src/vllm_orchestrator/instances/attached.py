"""OpenAI-compatible servers that already run: routed and measured, never started or stopped by us."""

import ipaddress
from urllib.parse import urlsplit

import httpx

from compute_common.bus import Bus
from compute_common.enums import EngineKind, InstanceStatus, Strategy
from compute_common.problems import Problem, conflict, invalid
from compute_common.schemas.vllm import AttachRequest, Endpoints, Instance, MemoryEstimate
from compute_common.times import utc_now
from vllm_orchestrator.asking import ask_host
from vllm_orchestrator.engines.probe import healthy, names_in_engines, served_models
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.record import Record, default_name, served_names
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.models.catalogue import lookup
from vllm_orchestrator.settings import Settings

MAX_MODELS = 200
FORWARD_SECONDS = 15  # the server is asked three times


class Attachments:
    """Takes servers in, and follows whether they still answer."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        table: InstanceTable,
        announcer: Announcer,
        *,
        client: httpx.AsyncClient,
        node_id: str,
    ) -> None:
        self._bus = bus
        named = (host.strip().lower() for host in settings.attach_hosts.split(","))
        self._allowed = frozenset(host for host in named if host)
        self._reachable = settings.reachable_engines
        self._table = table
        self._announcer = announcer
        self._client = client
        self._node_id = node_id

    async def attach(self, request: AttachRequest) -> Instance:
        """A ready instance for the server at `endpoint`, as this host, or the node that the request names,
        reaches it. Problem 422 when it may not be or is none.
        """
        if request.node_id not in (None, self._node_id):
            body = {"attach": request.model_dump(mode="json", exclude_none=True)}
            answer = await ask_host(self._bus, "start", request.node_id or "", body, FORWARD_SECONDS)
            return Instance.model_validate(answer)
        base = self._base(request.endpoint)
        names, llama = await served_models(self._client, f"{base}/v1")
        if not names:
            raise invalid(
                f"{base}/v1/models does not answer as an OpenAI-compatible server", cause="not-an-engine"
            )
        model = _engine_name(request.model_name, names, base)
        name = request.instance_name or default_name(request.model_name or model, self._table.names())
        record = _record(request, name, base, self._node_id, llama)
        record.model_name = request.model_name or model
        record.served_names = _served(name, request.model_name, names)
        record.config = {"model": model, "models": names[:MAX_MODELS]}
        record.endpoints = await self._endpoints(base)
        if not await self._table.claim(record):
            raise conflict("instance-exists", f"the instance '{name}' exists: choose another instance_name")
        await self._announcer.tell(record)
        return record.public()

    async def look(self) -> None:
        """Ask each attached server whether it still answers."""
        for record in self._table.own():
            if not record.attached:
                continue
            api = record.endpoints.api
            may_ask = self._reachable.allow(api)  # the record may be another's work
            names, _llama = await served_models(self._client, api or "") if may_ask else ([], False)
            status = InstanceStatus.READY if names else InstanceStatus.DEGRADED
            if status is not record.status:
                record.status = status
                if not names:
                    record.went_wrong("the attached server does not answer", utc_now())
                await self._announcer.changed(record)

    async def _endpoints(self, base: str) -> Endpoints:
        """What the server has of them: Ollama and LM Studio have neither health nor metrics."""
        health, metrics = f"{base}/health", f"{base}/metrics"
        return Endpoints(
            api=f"{base}/v1",
            health=health if await healthy(self._client, health) else f"{base}/v1/models",
            metrics=metrics if await healthy(self._client, metrics) else None,
        )

    def _base(self, endpoint: str) -> str:
        """`http://host:port` of an endpoint that may be asked: loopback, or listed in ENGINE_ATTACH_HOSTS."""
        try:
            parts = urlsplit(endpoint)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise invalid("endpoint must be http://host:port") from error
        if not (_is_loopback(host) or host.lower() in self._allowed):
            raise _not_allowed()
        if parts.username or parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
            raise invalid("endpoint must be http://host:port or http://host:port/v1")
        shown = f"[{host}]" if ":" in host else host
        return f"{parts.scheme}://{shown}:{port}" if port else f"{parts.scheme}://{shown}"


def _not_allowed() -> Problem:
    return invalid(
        "only loopback endpoints may be attached; name other hosts in ENGINE_ATTACH_HOSTS",
        cause="endpoint-not-allowed",
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _engine_name(model_name: str | None, names: list[str], base: str) -> str:
    """What the server itself calls the model; its first one where none is named. Problem 422."""
    if model_name is None:
        return names[0]
    wanted = names_in_engines(model_name)
    found = next((name for name in names if name.lower() in wanted), None)
    if found is None and len(names) > 1:
        listed = ", ".join(names[:20])
        raise invalid(f"{base} does not serve '{model_name}'; it serves {listed}", cause="not-served")
    return found or names[0]  # a server of one model may be called by any name


def _served(name: str, model_name: str | None, names: list[str]) -> list[str]:
    """The named model's names, or those of every model that the server has."""
    if model_name is not None:
        return served_names(name, model_name, lookup(model_name))
    bare = [each.removesuffix(":latest") for each in names[:MAX_MODELS]]
    return list(dict.fromkeys([name, *names[:MAX_MODELS], *bare]))


def _record(request: AttachRequest, name: str, base: str, node_id: str, llama: bool) -> Record:
    return Record(
        instance_name=name,
        instance_id=name,
        model_name=request.model_name or name,
        status=InstanceStatus.READY,
        engine=EngineKind.LLAMA_CPP if llama else EngineKind.VLLM,
        strategy=Strategy.CPU if llama else Strategy.SINGLE_GPU,
        tensor_parallel_size=1,
        pipeline_parallel_size=1,
        placement=[],
        memory=MemoryEstimate(
            weights_mb=0,
            kv_cache_mb=0,
            activations_mb=0,
            overhead_mb=0,
            total_mb=0,
            kv_cache_tokens=0,
            source="not ours: an attached server",
        ),
        explanation=f"An attached server at {base}: routed to, never started or stopped from here.",
        served_names=[name],
        node_id=node_id,
        attached=True,
        created_at=utc_now(),
        ready_at=utc_now(),
        request={"endpoint": base},
    )
