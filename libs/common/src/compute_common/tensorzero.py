"""What benchmark runs tell TensorZero: who writes its configuration and who sends feedback agree here.

A gateway takes feedback only for metrics that its configuration declares.
"""

from collections.abc import Mapping
from typing import Literal

Better = Literal["max", "min"]

METRICS: Mapping[str, Better] = {
    "compute_benchmark_output_tokens_per_s": "max",
    "compute_benchmark_ttft_ms_p50": "min",
    "compute_benchmark_tpot_ms_p50": "min",
    "compute_benchmark_e2e_ms_p50": "min",
}


def declarations() -> str:
    """TOML that declares `METRICS`, each a number about one inference."""
    return "".join(
        f'\n[metrics.{name}]\ntype = "float"\noptimize = "{better}"\nlevel = "inference"\n'
        for name, better in METRICS.items()
    )
