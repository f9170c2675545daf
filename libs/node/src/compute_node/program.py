"""The node program: a worker with the built-in handlers for this host's model instances."""

import asyncio
from pathlib import Path

from compute_common.tasks import end_tasks, every
from compute_node.inference import Inference
from compute_node.instances import Instances
from compute_node.settings import NodeSettings
from compute_node.worker import Worker

ALIVE_SECONDS = 4.0


class NodeProgram:
    """More handlers can be registered on `worker` before `run`."""

    def __init__(self, settings: NodeSettings) -> None:
        node_id = settings.resolved_node_id()
        self.worker = Worker(
            node_id,
            settings=settings,
            concurrency=settings.compute_node_slots,
            announce=settings.compute_node_announce,
            heartbeat_seconds=settings.node_heartbeat_seconds,
            grace_seconds=settings.compute_node_grace_seconds,
            managed=True,
        )
        self.instances = Instances(self.worker.bus, node_id, settings.reachable_engines)
        self._alive_file = settings.compute_node_alive_file
        self._inference = Inference(self.instances)
        self.worker.handles("inference")(self._inference.inference)
        self.worker.handles("embedding")(self._inference.embedding)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        await self.instances.start()
        signs = asyncio.create_task(every(ALIVE_SECONDS, self._sign)) if self._alive_file else None
        try:
            await self.worker.run()
        finally:
            await end_tasks([signs])
            await self.instances.stop()
            await self._inference.close()

    async def _sign(self) -> None:
        if self._alive_file is not None and self.worker.bus.connected:
            await asyncio.to_thread(Path.touch, self._alive_file)
