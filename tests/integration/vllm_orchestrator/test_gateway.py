"""The gateway between the official client and engines that do what they are told, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.integration.vllm_orchestrator.attaching import attach
from tests.integration.vllm_orchestrator.hosts import orchestrator
from tests.support.live import listening
from tests.support.nats import NatsServer
from tests.support.scripted_engine import Ending, ScriptedEngine
from tests.support.waiting import until

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count."}]


@dataclass
class Gate:
    base: str
    client: openai.AsyncOpenAI

    async def stream(self) -> str:
        """The text of one streamed chat."""
        chunks = await self.client.chat.completions.create(model="tiny", messages=ASK, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def ask(self) -> str:
        answer = await self.client.chat.completions.create(model="tiny", messages=ASK)
        return answer.choices[0].message.content or ""


@asynccontextmanager
async def gate(server: NatsServer, home: Path, *engines: ScriptedEngine) -> AsyncIterator[Gate]:
    """Replicas `one`, `two`, … of the model `tiny` behind one gateway; no retries by the client."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(listening(orchestrator(server, home)))
        for name, engine in zip(("one", "two", "three"), engines, strict=False):
            await stack.enter_async_context(engine.running())
            await attach(base, engine.url, "tiny", name)
        client = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
        yield Gate(base, await stack.enter_async_context(client))


async def test_the_official_client(nats_server: NatsServer, tmp_path: Path) -> None:
    async with gate(nats_server, tmp_path, ScriptedEngine()) as it:
        assert await it.ask() == "t0 t1 t2 "
        assert await it.stream() == "t0 t1 t2 "
        text = await it.client.completions.create(model="one", prompt="Count.")
        assert text.choices[0].text == "t0 t1 t2 "
        assert {model.id async for model in it.client.models.list()} == {"one", "tiny"}
        assert (await it.client.models.retrieve("TINY")).id == "tiny"
        with pytest.raises(openai.NotFoundError, match="no ready instance serves 'nobody'"):
            await it.client.chat.completions.create(model="nobody", messages=ASK)


async def test_idle_replicas_take_turns_and_busy_ones_wait(nats_server: NatsServer, tmp_path: Path) -> None:
    one, two = ScriptedEngine(tokens=1), ScriptedEngine(tokens=1)
    async with gate(nats_server, tmp_path, one, two) as it:
        for _ in range(6):
            await it.ask()
        assert (len(one.bodies), len(two.bodies)) == (3, 3)
        one.first_after_seconds = two.first_after_seconds = 30
        asking = [asyncio.create_task(it.ask()) for _ in range(5)]
        await until(lambda: one.under_way + two.under_way == 5)
        assert {one.under_way, two.under_way} == {2, 3}
        for task in asking:
            task.cancel()


@pytest.mark.parametrize("ending", ["before-headers", "before-first-byte"])
async def test_a_replica_that_dies_before_its_first_byte_costs_nothing(
    nats_server: NatsServer, tmp_path: Path, ending: Ending
) -> None:
    dying, well = ScriptedEngine(ending=ending), ScriptedEngine()
    async with gate(nats_server, tmp_path, dying, well) as it:
        assert [await it.stream() for _ in range(6)] == ["t0 t1 t2 "] * 6
        assert 1 <= len(dying.bodies) <= 3, "a replica that just failed is asked last"


async def test_a_replica_that_fails_or_is_gone_is_passed_over(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    failing, well = ScriptedEngine(status=500), ScriptedEngine()
    async with gate(nats_server, tmp_path, failing, well) as it:
        assert [await it.ask() for _ in range(4)] == ["t0 t1 t2 "] * 4
        assert failing.bodies
        failing.status = well.status = 400
        with pytest.raises(openai.BadRequestError, match="the script says no"):
            await it.ask()


async def test_nobody_left_is_said(nats_server: NatsServer, tmp_path: Path) -> None:
    async with gate(nats_server, tmp_path, ScriptedEngine(ending="before-headers")) as it:
        with pytest.raises(openai.InternalServerError, match="none of the 1 ready instance"):
            await it.ask()


async def test_an_engine_that_dies_midway_is_an_error_not_a_short_answer(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with gate(nats_server, tmp_path, ScriptedEngine(ending="midway")) as it:
        with pytest.raises(openai.APIError, match="ended before its answer was whole"):
            await it.stream()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_takes_its_request_along(
    nats_server: NatsServer, tmp_path: Path, streamed: bool
) -> None:
    """While tokens come, and also before the first one."""
    engine = ScriptedEngine(tokens=10_000, between_seconds=0.01, first_after_seconds=0 if streamed else 60)
    async with gate(nats_server, tmp_path, engine) as it:
        body = {"model": "tiny", "messages": ASK, "stream": streamed}
        url = f"{it.base}/v1/chat/completions"
        if streamed:
            async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as answer:
                await anext(answer.aiter_bytes())
        else:
            async with httpx.AsyncClient(timeout=httpx.Timeout(5, read=0.3)) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.post(url, json=body)
        await until(lambda: engine.left_early == 1 and engine.under_way == 0)
