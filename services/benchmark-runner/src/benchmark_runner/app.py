"""`uvicorn benchmark_runner.app:app`."""

from benchmark_runner.service import BenchmarkRunner
from benchmark_runner.settings import Settings
from compute_common.shell import create_app

app = create_app(BenchmarkRunner(Settings()))
