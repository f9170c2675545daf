"""Before a cell is measured: what the server understands, and prompts of exactly the tokens asked for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark_runner import prompts
from benchmark_runner.generator.client import EngineClient
from benchmark_runner.generator.dialect import Api, Prompt
from benchmark_runner.plan import CellPlan

CALIBRATIONS = 8
REFUSALS = ("http-400", "http-422")
NO_SUCH_ROUTE = ("http-404", "http-405", "http-501")


async def learn(client: EngineClient, api: Api | None) -> None:
    """Find out whether the server counts tokens, and settle on `api` where one is asked for; never raises."""
    for kind in ("llama", "vllm"):
        client.dialect.tokenize = kind
        if await client.tokens("one two three") is not None:
            break
    else:
        client.dialect.tokenize = None
    if api is not None:
        client.dialect.api = api


async def settle(client: EngineClient, plan: CellPlan, api: Api | None) -> str | None:
    """Drop what the server refuses; the error that stays, or None."""
    error = await _options(client, plan)
    if error in NO_SUCH_ROUTE and api is None and client.dialect.api == "completions":
        client.dialect.api = "chat"
        error = await _options(client, plan)
    return error


async def _options(client: EngineClient, plan: CellPlan) -> str | None:
    dialect = client.dialect
    dialect.cache_prompt = plan.shared_prefix > 0
    given = dialect.ignore_eos, dialect.include_usage
    error: str | None = None
    for option in (None, "ignore_eos", "include_usage"):
        if option is not None:
            setattr(dialect, option, False)
        error = (await client.complete(prompts.text(prompts.seed_of(plan.seed, -1), 4), 1)).error
        if error not in REFUSALS:
            return error
    dialect.ignore_eos, dialect.include_usage = given
    return error


class PromptMaker:
    """Prompts of `context_length` tokens: ids where the server makes them, else counted text."""

    def __init__(self, client: EngineClient, plan: CellPlan) -> None:
        self._client = client
        self._plan = plan
        self._shared = min(plan.shared_prefix, plan.context_length)
        self._common: list[int] = []
        self._shape: _Shape | None = None

    async def get_ready(self) -> None:
        """Count what has to be counted once."""
        if self._client.dialect.tokenize is None or self._client.dialect.api != "completions":
            self._shape = await _shape(self._client, self._plan)
        elif self._shared:
            self._common = (await self._ids(-1))[: self._shared]

    async def make(self, numbers: range) -> Sequence[Prompt]:
        """The prompts of these numbers; the same number is the same prompt again."""
        if self._shape is not None:
            return [_text(self._plan, number, self._shape) for number in numbers]
        own = self._plan.context_length - len(self._common)
        found = await asyncio.gather(*(self._ids(number) for number in numbers))
        return [self._common + ids[:own] for ids in found]

    async def _ids(self, number: int) -> list[int]:
        text = prompts.text(prompts.seed_of(self._plan.seed, number), self._plan.context_length)
        return await self._client.tokens(text) or []


@dataclass(frozen=True, slots=True)
class _Shape:
    words: int
    fillers: int = 0


async def _shape(client: EngineClient, plan: CellPlan) -> _Shape:
    """How many words, and then short ones, make `context_length` tokens by the server's own count."""
    wanted, shape = plan.context_length, _Shape(plan.context_length)
    for attempt in range(CALIBRATIONS):
        text = prompts.text(prompts.seed_of(plan.seed, -2 - attempt), shape.words, shape.fillers)
        counted = (await client.complete(text, 1)).prompt_tokens
        if not counted or counted == wanted:
            break
        better = _nearer(shape, wanted, counted)
        if better == shape:
            break
        shape = better
    return shape


def _nearer(shape: _Shape, wanted: int, counted: int) -> _Shape:
    """Words in proportion while far away, then short words, mostly a token each, for what is missing."""
    missing = wanted - counted
    if 0 < missing <= max(8, wanted // 20):
        more = missing if not shape.fillers else max(1, missing // 2)
        return _Shape(shape.words, shape.fillers + more)
    if missing < 0 and shape.fillers:
        return _Shape(shape.words, max(0, shape.fillers - max(1, -missing // 2)))
    return _Shape(max(0, int(shape.words * wanted / counted) - (missing < 0)))


def _text(plan: CellPlan, number: int, shape: _Shape) -> str:
    own = prompts.text(prompts.seed_of(plan.seed, number), shape.words, shape.fillers)
    if not plan.shared_prefix:
        return own
    common = prompts.text(prompts.seed_of(plan.seed, -1), shape.words, shape.fillers).split(" ")
    share = len(common) * min(plan.shared_prefix, plan.context_length) // plan.context_length
    return " ".join([*common[:share], *own.split(" ")[share:]])
