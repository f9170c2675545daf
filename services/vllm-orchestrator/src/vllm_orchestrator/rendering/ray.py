"""The commands that join hosts by Ray: one cluster, one `vllm serve` inside the head (VLLM.md B1)."""

import shlex
from collections.abc import Sequence

from vllm_orchestrator.planning.result import Plan
from vllm_orchestrator.rendering.argv import address_of

RAY_PORT = 6379


def ray_argv(plan: Plan, rank: int) -> list[str]:
    """`ray start` of one host: the head returns once it is up, the others stay until the head goes."""
    place = plan.places[rank]
    common = ["--node-ip-address", address_of(place), "--num-gpus", str(len(place.gpu_indices))]
    if rank == 0:
        return ["ray", "start", "--head", "--port", str(RAY_PORT), "--disable-usage-stats", *common]
    return ["ray", "start", "--address", f"{address_of(plan.places[0])}:{RAY_PORT}", *common, "--block"]


def ray_shell(plan: Plan, rank: int, serve: Sequence[str]) -> str:
    """What a container's shell runs on that host; on the head `serve` once every GPU has joined."""
    start = shlex.join(ray_argv(plan, rank))
    if rank:
        return f"until {start}; do sleep 2; done"
    gpus = sum(len(place.gpu_indices) for place in plan.places)
    joined = f"import ray; ray.init(address='auto'); exit(ray.cluster_resources().get('GPU', 0) < {gpus})"
    wait = f"until python3 -c {shlex.quote(joined)}; do sleep 2; done"
    return f"{start} && {wait} && exec {shlex.join(serve)}"
