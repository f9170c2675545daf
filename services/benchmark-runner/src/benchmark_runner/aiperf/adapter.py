"""Measures cells with AIPerf, once a repeat: it takes the place of our own load generator."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from benchmark_runner import programs
from benchmark_runner.aiperf.contract import (
    ARTIFACTS,
    LOG,
    PROMPTS,
    RECORDS,
    TOKENIZER,
    TOKENIZER_FILES,
    Asked,
    arguments,
    dataset,
    timings,
)
from benchmark_runner.generator.client import EngineClient
from benchmark_runner.generator.dialect import Api
from benchmark_runner.generator.patience import Patience
from benchmark_runner.generator.preparing import PromptMaker, settle
from benchmark_runner.generator_process import GeneratorLostError, Heard
from benchmark_runner.plan import CellPlan
from benchmark_runner.programs import last_lines, running
from benchmark_runner.summary import Samples, refusal
from benchmark_runner.targets import Target
from benchmark_runner.timing import RequestTiming
from compute_common.problems import Problem, invalid
from compute_common.schemas.benchmark import BenchmarkRequest

log = structlog.get_logger("aiperf")

LOOK_SECONDS = 0.5
SPARE_SECONDS = 120.0  # to start and to write its files
VERSION_SECONDS = 30.0


def check(request: BenchmarkRequest, program: str) -> None:
    """Raises what would make it fail: 422 of the request, 503 where AIPerf is not installed."""
    if request.request_rates or request.find_max_rate:
        raise invalid("tool aiperf measures batch_sizes here; request_rates and find_max_rate need builtin")
    if request.shared_prefix_tokens:
        raise invalid("shared_prefix_tokens needs the builtin tool")
    if "," in request.model_name:
        raise invalid("AIPerf takes a comma in a model's name for a list of models")
    if shutil.which(program) is None:
        raise Problem(
            409, "no-aiperf", "AIPerf is not installed here: install aiperf, or set AIPERF_BIN to its program"
        )


class Aiperf:
    """Used as our own generator is: a context, then `cell` after `cell`; `stop` after one was cut off."""

    def __init__(self, target: Target, patience: Patience, api: Api | None, program: str) -> None:
        self._target = target
        self._patience = patience
        self._api = api
        self._program = shutil.which(program) or program
        self._folder = Path()
        self._measured: list[RequestTiming] = []
        self._under_way: int | None = None  # the repeat whose records are not in `_measured` yet
        self._seen = (0, 0)  # bytes and lines of the records
        self.version = "of unknown version"

    async def __aenter__(self) -> Self:
        self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="aiperf-"))
        self.version = await self._version()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def cell(self, plan: CellPlan, heard: Heard) -> Samples:
        """The cell measured; raises GeneratorLostError when AIPerf fails without a record."""
        self._measured, self._under_way = [], None
        total = plan.requests * plan.repeats
        heard("preparing", 0, total)
        target = self._target
        client = EngineClient(target.base_url, target.model, self._patience, target.addresses)
        try:
            problem = await self._settled(client, plan)
            if problem is not None:
                return Samples(problem=problem, notes=[refusal(problem)])
            maker = PromptMaker(client, plan)  # nobody asked it for token ids: it makes words
            await maker.get_ready()
            for repeat in range(plan.repeats):
                each = plan.requests + plan.warmup
                prompts = await maker.make(range(repeat * each, (repeat + 1) * each))
                await asyncio.to_thread(self._lay_out, [str(prompt) for prompt in prompts])
                self._under_way = repeat
                await self._measure(plan, client, heard)
                self._collect()
        finally:
            await client.close()
        return Samples(timings=self._measured)

    async def stop(self) -> Samples | None:
        """What the cell that was cut off had."""
        self._collect()
        return Samples(timings=self._measured, partial=True)

    # --- parts

    async def _settled(self, client: EngineClient, plan: CellPlan) -> str | None:
        if self._api is not None:
            client.dialect.api = self._api
        return await settle(client, plan, self._api)

    async def _measure(self, plan: CellPlan, client: EngineClient, heard: Heard) -> None:
        asked = Asked(
            self._target.base_url,
            self._target.model,
            client.dialect.api == "chat",
            client.dialect.ignore_eos,
            self._patience.total,
        )
        argv = [self._program, *arguments(plan, asked)]
        limit = SPARE_SECONDS + self._patience.total * (plan.iterations + plan.warmup)
        total, done = plan.requests * plan.repeats, len(self._measured)
        try:
            async with running(argv, self._folder, self._environment()) as process:
                said = asyncio.create_task(last_lines(process.stderr))
                async with asyncio.timeout(limit):
                    while process.returncode is None:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(asyncio.shield(process.wait()), LOOK_SECONDS)
                        heard("measuring", min(total, done + await asyncio.to_thread(self._count)), total)
                # its log tells more than what it says on the terminal
                words = await asyncio.to_thread(self._errors) or await said
        except TimeoutError as error:
            raise GeneratorLostError("AIPerf took too long and was ended") from error
        if not await asyncio.to_thread(self._count):
            log.warning("AIPerf failed", returncode=process.returncode, said=words)
            last = words[-1] if words else "it said nothing"
            raise GeneratorLostError(f"AIPerf ended with {process.returncode} and no record: {last}")

    def _lay_out(self, prompts: list[str]) -> None:
        shutil.rmtree(self._folder / ARTIFACTS, ignore_errors=True)
        self._seen = (0, 0)
        (self._folder / PROMPTS).write_text(dataset(prompts), "utf-8")
        (self._folder / TOKENIZER).mkdir(exist_ok=True)
        for name, content in TOKENIZER_FILES.items():
            (self._folder / TOKENIZER / name).write_text(content, "utf-8")

    def _collect(self) -> None:
        """The records of the repeat under way, once."""
        if self._under_way is not None:
            self._measured += timings(_lines(self._folder / ARTIFACTS / RECORDS), self._under_way)
        self._under_way = None

    def _count(self) -> int:
        """Records so far, reading only what is new."""
        size, lines = self._seen
        try:
            with (self._folder / ARTIFACTS / RECORDS).open("rb") as file:
                file.seek(size)
                more = file.read()
        except OSError:
            return 0
        self._seen = size + len(more), lines + more.count(b"\n")
        return self._seen[1]

    def _errors(self) -> list[str]:
        found = [line for line in _lines(self._folder / ARTIFACTS / LOG) if " ERROR " in line]
        return [line.strip()[:500] for line in found]

    def _environment(self) -> dict[str, str]:
        home = str(self._folder)
        return {**programs.environment(), "HOME": home, "TMPDIR": home, "DO_NOT_TRACK": "1"}

    async def _version(self) -> str:
        """As it says itself; a failure shows when it measures."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._program, "--version"),
                cwd=self._folder,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise GeneratorLostError(f"AIPerf cannot be run: {error.strerror}") from error
        try:
            out, _ = await asyncio.wait_for(process.communicate(), VERSION_SECONDS)
        except TimeoutError:
            return self.version
        finally:
            if process.returncode is None:
                process.kill()
        return out.decode(errors="replace").strip()[:40]


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(file)
    except OSError:
        return []
