"""Ended runs as rows of `benchmark_results` in a Supabase project, over its REST interface.

A plain POST: the `supabase` package would weigh more than the rest of this service.
"""

import asyncio

import httpx
import structlog
from pydantic import SecretStr

from compute_common.schemas.benchmark import Benchmark

log = structlog.get_logger("supabase")

TABLE = "benchmark_results"
PAUSES = (1.0, 5.0, 20.0)  # before each further try
COLUMNS = frozenset(
    {
        "benchmark_id",
        "status",
        "model_name",
        "node_id",
        "engine",
        "cells",
        "environment",
        "request",
        "error",
        "created_at",
        "finished_at",
    }
)


class SupabaseResults:
    """`publish` never raises: the file on disk is the record, and no run fails for want of a row."""

    def __init__(self, url: str, key: SecretStr, timeout_seconds: float) -> None:
        self._url = f"{url.rstrip('/')}/rest/v1/{TABLE}"
        self._key = key
        self._timeout_seconds = timeout_seconds

    async def publish(self, run: Benchmark) -> bool:
        """Whether the row is there; tried a few times, then named in the log and given up."""
        row = run.model_dump(mode="json", include=set(COLUMNS))
        reason = ""
        for pause in (0.0, *PAUSES):
            await asyncio.sleep(pause)
            reason = await self._try(row)
            if not reason:
                return True
        log.warning("result not in Supabase", benchmark_id=run.benchmark_id, reason=reason)
        return False

    async def _try(self, row: dict[str, object]) -> str:
        """Empty when it is written, else why not, without a word of what the server said."""
        key = self._key.get_secret_value()
        headers = {
            "apikey": key,
            "Authorization": f"Bearer {key}",
            "Prefer": "resolution=merge-duplicates,return=minimal",
        }
        try:
            async with httpx.AsyncClient(timeout=self._timeout_seconds, trust_env=False) as http:
                answer = await http.post(
                    self._url, params={"on_conflict": "benchmark_id"}, json=[row], headers=headers
                )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return type(error).__name__
        if answer.status_code == 404:
            return "no such table: apply deploy/supabase/migrations"
        return "" if answer.is_success else f"HTTP {answer.status_code}"
