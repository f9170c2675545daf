"""`uvicorn gpu_orchestrator.app:app`."""

from compute_common.shell import create_app
from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings

app = create_app(GpuOrchestrator(Settings()))
