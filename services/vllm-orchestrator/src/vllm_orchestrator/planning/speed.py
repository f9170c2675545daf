"""How fast one request is answered: measured where a benchmark was run, else from memory bandwidth.

Decoding reads every active weight once a token, so tokens/s is at most bandwidth / bytes read. Engines reach
about 0.7 of that (Llama-3-8B in bfloat16: some 150 tokens/s on an H100 of 3,350 GB/s, 45 on an RTX 3090 of
936).
"""

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.layouts import Layout
from vllm_orchestrator.planning.weights import active_weight_bytes

REACHED = 0.7
GB = 1e9


def measured_speed(profile: ModelProfile, host: Host) -> float | None:
    """Output tokens/s that a benchmark saw of this model on this host."""
    names = {name.lower() for name in (profile.name, *profile.aliases)}
    return max((speed for model, speed in host.measured if model.lower() in names), default=None)


def expected_speed(profile: ModelProfile, layout: Layout) -> float | None:
    """Tokens/s of one request by bandwidth, stage after stage. None where a card's is not known."""
    bytes_per_stage = active_weight_bytes(profile) / layout.shape.pp / layout.shape.tp
    seconds = 0.0
    for _host, cards in layout.stages:
        slowest = min(gpu.bandwidth_gb_s or 0.0 for gpu in cards)
        if slowest <= 0:
            return None
        seconds += bytes_per_stage / (slowest * GB * REACHED)
    return round(1 / seconds, 1)
