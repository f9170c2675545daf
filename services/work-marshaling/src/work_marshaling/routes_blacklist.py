"""The REST routes of the blacklist."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastapi import APIRouter

from compute_common.ids import Identifier
from compute_common.problems import not_found
from compute_common.schemas.base import Wire
from compute_common.schemas.work import Blacklist
from compute_common.shell.routing import new_router
from work_marshaling import answers

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling


class ForgiveAnswer(Wire):
    node_id: str
    status: str = "forgiven"


def router(service: WorkMarshaling) -> APIRouter:
    routes = new_router("blacklist")

    @routes.get("/api/v1/blacklist", response_model=Blacklist)
    async def blacklist() -> Blacklist:
        """Nodes that are set aside after repeated failures, and until when."""
        nodes = answers.blacklist(service.state.blacklist, time.time())
        return Blacklist(nodes=nodes, count=len(nodes))

    @routes.delete("/api/v1/blacklist/{node_id}", response_model=ForgiveAnswer)
    async def forgive(node_id: Identifier) -> ForgiveAnswer:
        """Give a node another chance now."""
        if not await service.intake.forgive(node_id):
            raise not_found("not-blacklisted", f"{node_id} is not on the blacklist")
        return ForgiveAnswer(node_id=node_id)

    return routes
