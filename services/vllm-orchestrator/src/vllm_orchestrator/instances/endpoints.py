"""Where an instance is reached."""

from compute_common.schemas.vllm import Endpoints


def endpoints_of(host: str, port: int) -> Endpoints:
    """The OpenAI-compatible base URL, metrics and health of an engine."""
    address = f"[{host}]" if ":" in host else host
    base = f"http://{address}:{port}"
    return Endpoints(api=f"{base}/v1", metrics=f"{base}/metrics", health=f"{base}/health")
