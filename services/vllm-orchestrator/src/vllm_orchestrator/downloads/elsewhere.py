"""A model that is not on this host: another node's word before the Hub's."""

from contextlib import suppress

from compute_common.bus import Bus
from compute_common.problems import Problem
from vllm_orchestrator.downloads.listing import check_repo
from vllm_orchestrator.downloads.peers import holder_of
from vllm_orchestrator.models.remote import HubModels, model_of
from vllm_orchestrator.planning.plan import Model

SAYS_MORE = frozenset({"gated-model", "invalid-model", "no-usable-weights", "no-such-quantization"})


class Elsewhere:
    """What is needed to plan a model before its files are here."""

    def __init__(self, bus: Bus, node_id: str, hub: HubModels) -> None:
        self._bus = bus
        self._node_id = node_id
        self._hub = hub

    async def on_a_node(self, name: str, quantization: str | None) -> Model | None:
        """The model by the files of a node that has it whole; None where none has."""
        with suppress(Problem):  # no name of a pull, a refusal of its files
            check_repo(name)
            found = await holder_of(self._bus, self._node_id, name)
            return None if found is None else await model_of(*found, quantization)
        return None

    async def on_the_hub(self, name: str, quantization: str | None) -> Model | None:
        """The model by the Hub's word; None where it has none. Problem says what is wrong with it."""
        try:
            return await self._hub.model(name, quantization)
        except Problem as refused:
            if refused.cause in SAYS_MORE:
                raise
            return None
