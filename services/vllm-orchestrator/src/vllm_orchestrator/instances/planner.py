"""From a request to a plan: the model's files, the hosts of now, the pure planner."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from compute_common.enums import EngineKind
from compute_common.problems import Problem, invalid
from compute_common.schemas.vllm import DeployRequest, Placement, PlanAnswer, PlanRequest
from compute_common.times import utc_now
from vllm_orchestrator.downloads.elsewhere import Elsewhere
from vllm_orchestrator.instances.answers import plan_answer, record_of, wish_of
from vllm_orchestrator.instances.record import Record, default_name
from vllm_orchestrator.instances.sources import Hosts
from vllm_orchestrator.models.catalogue import catalogue
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.profile import ProfileError
from vllm_orchestrator.models.resolve import ModelFolder
from vllm_orchestrator.planning.files import hosts_with
from vllm_orchestrator.planning.inventory import Host, folded, host_of_document
from vllm_orchestrator.planning.memory import DTYPE_BYTES, counted_parameters
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, to_mib
from vllm_orchestrator.schemas import ModelEntry, ModelList
from vllm_orchestrator.settings import Settings


@dataclass(frozen=True)
class Berth:
    """Where one instance may go: on the host `only`, apart from the places of its siblings.

    `among`: the hosts of a layout that another orchestrator planned over several, with `only` at its head.
    """

    only: str | None = None
    among: tuple[str, ...] = ()
    avoid: tuple[Placement, ...] = ()
    replica_of: str | None = None


ANYWHERE = Berth()


def berth_of(record: Record, others: Iterable[Record]) -> Berth:
    """Apart from its siblings, whose deployment it belongs to."""
    group = record.replica_of or record.instance_name
    siblings = [
        each
        for each in others
        if group in (each.instance_name, each.replica_of) and each.instance_name != record.instance_name
    ]
    return Berth(
        avoid=tuple(place for each in siblings for place in each.placement), replica_of=record.replica_of
    )


def apart(hosts: Sequence[Host], avoid: Sequence[Placement]) -> list[Host]:
    """The hosts without the GPUs, and for engines on RAM without the hosts, of these places."""
    cards = {(place.node_id, index) for place in avoid for index in place.gpu_indices}
    whole = {place.node_id for place in avoid if not place.gpu_indices}
    return [
        replace(host, gpus=tuple(gpu for gpu in host.gpus if (host.node_id, gpu.index) not in cards))
        for host in hosts
        if host.node_id not in whole
    ]


class Planner:
    """Answers plan questions; starts nothing."""

    def __init__(
        self,
        settings: Settings,
        folder: ModelFolder,
        hosts: Hosts,
        node_id: str,
        elsewhere: Elsewhere,
    ) -> None:
        self._settings = settings
        self._elsewhere = elsewhere
        self._folder = folder
        self._hosts = hosts
        self._node_id = node_id

    async def find(self, request: DeployRequest, berth: Berth = ANYWHERE) -> Plan | NoFit:
        """The plan for a deployment on the hosts of now. Raises Problem for a model that cannot be known."""
        model = await self._model(request)
        wish = wish_of(request)
        hosts = self._usable(model, await self._hosts.now())
        if berth.among:
            hosts = [host for host in hosts if host.node_id in berth.among]
        elif berth.only is not None:
            wish = replace(wish, node_id=berth.only)
        found = await asyncio.to_thread(plan, model, apart(hosts, berth.avoid), wish)
        if isinstance(found, NoFit) and model.gguf is None and hosts_with(model.any, hosts[1:]):
            # what is known here is its form for vLLM; another node may have it as GGUF
            other = await self._elsewhere.on_a_node(model.any.name, request.quantization)
            model = replace(model, gguf=other.gguf if other else None)
            found = await asyncio.to_thread(plan, model, apart(hosts, berth.avoid), wish)
        if isinstance(found, NoFit) and model.gguf is not None and berth.avoid:
            return plan(model, hosts, wish)  # RAM has no second card: beside its sibling then
        return found

    async def what_if(self, request: PlanRequest) -> PlanAnswer:
        """The same question, also about hosts and models that are not here."""
        if request.config is None and request.inventory is None:
            found = await self.find(request)
        else:
            model = await self._model(request) if request.config is None else _inline(request)
            if request.inventory is not None:
                hosts = [host_of_document(document) for document in request.inventory]
            else:
                hosts = self._usable(model, await self._hosts.now())
            found = await asyncio.to_thread(plan, model, hosts, wish_of(request))
        name = request.instance_name or default_name(request.model_name, ())
        record = (
            record_of(found, request, name, self._settings, utc_now()) if isinstance(found, Plan) else None
        )
        return plan_answer(found, record)

    async def _model(self, request: DeployRequest) -> Model:
        """The model by its files, the catalogue, another node or the Hub. Problem says what to supply."""
        try:
            return self._folder.resolve(request.model_name, request.model_path)
        except Problem as unknown:
            if unknown.status != 404:
                raise
            name, quantization = request.model_path or request.model_name, request.quantization
            found = await self._elsewhere.on_a_node(name, quantization)
            if found is None and _is_hub_id(request):
                found = await self._elsewhere.on_the_hub(name, quantization)
            if found is None:
                raise
            return found

    async def models(self, fits: bool) -> ModelList:
        """Every model a name alone can deploy: those here first, then the catalogue.

        With `fits` each is planned on the hosts of now, and those that fit stand first, the largest first.
        """
        hosts = await self._hosts.now() if fits else []
        return await asyncio.to_thread(self._listed, hosts, fits)

    def _listed(self, hosts: list[Host], fits: bool) -> ModelList:
        entries = [entry for entry in (self._entry(*local, hosts, fits) for local in self._local()) if entry]
        here = {entry.model_name.lower() for entry in entries}
        for profile in catalogue():
            if profile.name.lower() not in here:
                model = Model(vllm=profile)
                entries.append(self._described(profile.name, model, hosts, fits, local=False))
        if fits:
            entries.sort(key=_best_first)
        return ModelList(models=entries, count=len(entries))

    def _local(self) -> list[tuple[str, str | None]]:
        listing = list(self._folder.listing())
        root = self._settings.model_root
        return [(name, str(path.absolute()) if path.is_relative_to(root) else None) for name, path in listing]

    def _entry(self, name: str, path: str | None, hosts: list[Host], fits: bool) -> ModelEntry | None:
        try:
            model = self._folder.resolve(name, path)
        except Problem:
            return None  # a folder that is no whole model; naming it in a deployment says what is wrong
        return self._described(name, model, hosts, fits, local=True)

    def _described(
        self, name: str, model: Model, hosts: list[Host], fits: bool, *, local: bool
    ) -> ModelEntry:
        profile = model.gguf or model.any
        size = profile.weight_bytes or profile.parameters * DTYPE_BYTES.get(profile.dtype, 2)
        entry = ModelEntry(
            model_name=name,
            aliases=list(profile.aliases),
            source=profile.source,
            local=local,
            format="gguf" if profile.gguf else "safetensors",
            parameters=profile.parameters or counted_parameters(profile),
            weights_mb=to_mib(size),
            max_model_len=profile.max_len,
        )
        if not fits:
            return entry
        wish = replace(wish_of(DeployRequest(model_name=name)), advise=False)
        found = plan(model, self._usable(model, hosts), wish)
        if isinstance(found, NoFit):
            return entry.model_copy(update={"fits": False, "explanation": found.reason})
        chosen = {
            "fits": True,
            "strategy": found.strategy.value,
            "explanation": found.explanation,
            "context": found.max_model_len,
            "kv_cache_tokens": found.kv_cache_tokens,
            "gpus": sum(len(place.gpu_indices) for place in found.places),
            "expected_tokens_per_s": found.tokens_per_s,
        }
        return entry.model_copy(update=chosen)

    def _usable(self, model: Model, hosts: list[Host]) -> list[Host]:
        """This host first, which has what was found on its disk.

        A model that only vLLM runs is planned onto its GPUs even while vLLM is not installed here: the plan
        and its compose file are useful, and starting it says what is missing.
        """
        here, *others = hosts
        if model.gguf is None:
            here = replace(here, engines=frozenset(EngineKind))
        if model.any.location.startswith("/"):
            here = replace(here, models=here.models | {folded(model.any.name)})
        return [here, *others]


def _is_hub_id(request: DeployRequest) -> bool:
    return request.model_path is None and request.model_name.count("/") == 1


def _best_first(entry: ModelEntry) -> tuple[bool, int, float, str]:
    speed = entry.expected_tokens_per_s or 0.0
    return not entry.fits, -(entry.parameters or 0), -speed, entry.model_name


def _inline(request: PlanRequest) -> Model:
    try:
        profile = profile_of_config(
            request.config or {},
            request.model_name,
            source="model_config of the request",
            weight_bytes=request.weight_bytes or 0,
        )
    except ProfileError as error:
        raise invalid(f"model_config cannot be used: {error}", cause="invalid-model") from error
    return Model(vllm=profile)
