"""Reports of a node, each acknowledged by the work log; said again until it is, also across NATS restarts."""

import asyncio
from typing import Any

import nats.errors
import structlog

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.receipts import Receipts

log = structlog.get_logger("reports")

ACK_SECONDS = 2.0  # a repetition is harmless: the message id tells the log
PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)


class UnreportableError(Exception):
    """The result is not JSON, or does not fit into one message."""


class Reports:
    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._receipts = Receipts(bus, ACK_SECONDS)

    async def completed(self, work_id: str, attempt: int, result: Any) -> None:
        """Raises `UnreportableError`."""
        await self._final(subjects.WORK_COMPLETED, work_id, attempt, {"result": result})

    async def failed(
        self, work_id: str, attempt: int, error: str, *, retryable: bool = True, leaving: bool = False
    ) -> None:
        body = {"error": error[:8000], "retryable": retryable, "leaving": leaving}
        await self._final(subjects.WORK_FAILED, work_id, attempt, body)

    async def progress(self, work_id: str, attempt: int, progress: Any = None) -> None:
        """Renew the lease; one that is lost is no harm, the next one follows."""
        body = {
            "work_id": work_id,
            "node_id": self._node_id,
            "attempt": attempt,
            "progress": progress,
            "v": 1,
        }
        if self._bus.connected:
            await self._bus.client.publish(subjects.WORK_PROGRESS, wire_json.dump(body))

    async def _final(self, subject: str, work_id: str, attempt: int, more: dict[str, Any]) -> None:
        body = {"work_id": work_id, "node_id": self._node_id, "attempt": attempt, "v": 1, **more}
        try:
            data = wire_json.dump(body)
        except (TypeError, ValueError) as error:
            raise UnreportableError(f"the result is not JSON: {error}") from error
        message_id = f"{self._node_id}:{work_id}:{attempt}"
        turn = 0
        headers: dict[str, str] | None = None  # the first time: said once, it needs no name
        while (trouble := await self._trouble(subject, data, headers)) is not None:
            headers = {"Nats-Msg-Id": message_id}
            log.warning("a report is not acknowledged yet", subject=subject, reason=trouble, turn=turn)
            await asyncio.sleep(PAUSES[min(turn, len(PAUSES) - 1)])
            turn += 1

    async def _trouble(self, subject: str, data: bytes, headers: dict[str, str] | None) -> str | None:
        """None once the log has it, else why not."""
        if not self._bus.connected:
            return "NATS is away"
        if len(data) > self._bus.client.max_payload:
            limit = self._bus.client.max_payload
            raise UnreportableError(f"the result has {len(data)} bytes, at most {limit} fit")
        try:
            answer = await self._receipts.publish(subject, data, headers)
        except (nats.errors.Error, Problem, OSError, TimeoutError, ValueError) as error:
            return type(error).__name__
        return str(answer["error"])[:300] if "error" in answer else None
