"""The few calls the store makes through the `supabase` client. Imported only when Supabase is configured."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Protocol

import httpx
from postgrest.exceptions import APIError
from postgrest.types import ReturnMethod
from supabase import AsyncClient, AsyncClientOptions, AsyncSupabaseException, acreate_client

from compute_common.schemas.base import JsonObject
from compute_common.times import rfc3339
from node_registry.supabase_rows import StoreError, refusal

PAGE_ROWS = 1000


class _Query(Protocol):
    async def execute(self) -> Any: ...


class SupabaseTables:
    """Each call takes `timeout_seconds` at most and raises `StoreError` only."""

    def __init__(self, client: AsyncClient, http: httpx.AsyncClient, timeout_seconds: float) -> None:
        self._client = client
        self._http = http
        self._timeout_seconds = timeout_seconds

    @classmethod
    async def open(cls, url: str, key: str, timeout_seconds: float) -> "SupabaseTables":
        """Nothing goes over the wire yet."""
        http = httpx.AsyncClient(timeout=timeout_seconds)
        options = AsyncClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,  # the store retries, and says so meanwhile
            httpx_client=http,
        )
        try:
            client = await acreate_client(url, key, options)
        except (AsyncSupabaseException, httpx.InvalidURL, ValueError):
            await http.aclose()
            # the exception's own text may hold what was given; it goes no further
            raise StoreError("SUPABASE_URL or SUPABASE_SERVICE_KEY is not usable") from None
        return cls(client, http, timeout_seconds)

    async def upsert(self, table: str, rows: Sequence[JsonObject]) -> None:
        await self._do(
            self._client.table(table).upsert(
                list(rows), on_conflict="node_id", returning=ReturnMethod.minimal
            )
        )

    async def pages(self, table: str, columns: str) -> AsyncIterator[list[JsonObject]]:
        """Every row, by node_id; a project may cap pages below `PAGE_ROWS`: only an empty one is the last."""
        after = ""
        while True:
            query = self._client.table(table).select(columns).gt("node_id", after)
            answer = await self._do(query.order("node_id").limit(PAGE_ROWS))
            rows = [row for row in answer if isinstance(row, dict) and isinstance(row.get("node_id"), str)]
            if not rows:
                return
            yield rows
            after = rows[-1]["node_id"]

    async def purge(self, table: str, before: datetime) -> None:
        """Tombstones older than that go."""
        delete = self._client.table(table).delete(returning=ReturnMethod.minimal)
        await self._do(delete.lt("deleted_at", rfc3339(before)))

    async def close(self) -> None:
        await self._http.aclose()

    async def _do(self, query: _Query) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await query.execute()
        except APIError as error:
            raise refusal(error.code, error.message) from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
            raise StoreError(f"it does not answer ({type(error).__name__})") from None
        return answer.data if isinstance(answer.data, list) else []
