"""`uvicorn gpu_orchestrator.app:app`."""

import gc
import sys

from compute_common.shell import create_app
from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings

app = create_app(GpuOrchestrator(Settings()))

gc.freeze()  # what the imports made is never garbage; walking it stopped every answer for 50 ms at a time
sys.setswitchinterval(0.0005)  # the journal's and the observer's threads hand the interpreter back sooner
