"""The OpenAI-compatible gateway: one address for every model of the cluster."""

from vllm_orchestrator.gateway.routes import router

__all__ = ["router"]
