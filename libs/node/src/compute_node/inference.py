"""Work types `inference` and `embedding` of the node program: the ready instance of this node is asked."""

from typing import Any

from compute_common.schemas.vllm import Instance
from compute_node import openai
from compute_node.instances import Instances, api_base
from compute_node.job import Job, WorkError


class Inference:
    """The built-in handlers. Only this node's instances are called, never an address from a payload."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._client = openai.Client(reachable=instances.reachable)

    async def close(self) -> None:
        await self._client.close()

    async def inference(self, job: Job) -> dict[str, Any]:
        """`messages` go to chat completions, `prompt` to completions, `input` to embeddings."""
        return await openai.inference(job, self._ask(job))

    async def embedding(self, job: Job) -> dict[str, Any]:
        """`input` goes to embeddings."""
        return await openai.embedding(job, self._ask(job))

    def _ask(self, job: Job) -> openai.Ask:
        async def ask(path: str, streamed: bool) -> dict[str, Any]:
            instance, name = await self._instance(job)
            url, who = f"{api_base(instance)}{path}", instance.instance_name
            result = await self._client.ask(job, url, name, who, streamed=streamed)
            return {**result, "instance_name": who}

        return ask

    async def _instance(self, job: Job) -> tuple[Instance, str]:
        """The instance for the job's model, woken when it is idle; asks the orchestrator once more first."""
        found = self._instances.find(job.model_name)
        if found is None:
            await self._instances.refresh()
            found = self._instances.find(job.model_name)
        if found is None and await self._instances.wake(job.model_name, job.timeout_seconds):
            found = self._instances.find(job.model_name)
        if found is not None:
            return found
        if job.model_name is None:
            ready = ", ".join(self._instances.names()) or "none"
            raise WorkError(f"model_name is missing; ready on this node: {ready}", retryable=False)
        raise WorkError(f"no ready instance of {job.model_name} on this node; deploy it")
