"""`uvicorn vllm_orchestrator.app:app`."""

from compute_common.shell import create_app
from vllm_orchestrator.service import VllmOrchestrator
from vllm_orchestrator.settings import Settings

app = create_app(VllmOrchestrator(Settings()))
