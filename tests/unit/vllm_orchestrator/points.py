"""Logged start-ups of real vLLM as planner questions: tests/data/vllm_kv_points.csv, with the shapes beside
it.

Only what an operator knows before the start goes in (model, card, settings, version); what was measured comes
out of the row for comparison alone.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.kv_cache import stage_layers
from vllm_orchestrator.planning.memory import RankMemory, Workload, ranks
from vllm_orchestrator.planning.release import Release, release_of
from vllm_orchestrator.planning.weights import counted_parameters

DATA = Path(__file__).parents[2] / "data"
GIB = 1 << 30
Row = dict[str, str]
# facts of the published config.json that the shapes file has no column for
_MLA = {"qk_nope_head_dim": 128, "v_head_dim": 128, "n_shared_experts": 1, "first_k_dense_replace": 3}
_GATED_DELTA = {"linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
_FACTS: dict[str, dict[str, Any]] = {
    "deepseek-ai/DeepSeek-R1": {**_MLA, "q_lora_rank": 1536},
    "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct": {
        **_MLA, "n_shared_experts": 2, "first_k_dense_replace": 1,
    },
    "Qwen/Qwen3.6-27B (autoround int4)": {
        **_GATED_DELTA, "linear_num_value_heads": 48,
        "layer_types": ["linear_attention"] * 48 + ["full_attention"] * 16,
    },
    "Qwen/Qwen3.6-35B-A3B (nvfp4)": {
        **_GATED_DELTA, "linear_num_value_heads": 32, "shared_expert_intermediate_size": 512,
        "layer_types": ["linear_attention"] * 30 + ["full_attention"] * 10,
    },
    "cyankiwi/gemma-4-26B-A4B-it-qat-AWQ-INT4": {
        "layer_types": ["sliding_attention"] * 25 + ["full_attention"] * 5,
        "global_head_dim": 512, "num_global_key_value_heads": 2,
    },
}  # fmt: skip
_TYPES = (
    ("qwen2.5", "qwen2"), ("distill-qwen", "qwen2"), ("r1-0528-qwen3", "qwen3"), ("qwen3", "qwen3"),
    ("gpt-oss", "gpt_oss"), ("gemma-4", "gemma4"), ("deepseek", "deepseek_v3"),
)  # fmt: skip
_METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    "4-bit": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    "gptq_marlin": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True},
    "auto_round": {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "symmetric": True}}},
    },
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "mxfp4": {"quant_method": "mxfp4"},
    "bitsandbytes": {"quant_method": "bitsandbytes"},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
}  # fmt: skip
_LENGTHS = {"meta-llama/Llama-2-7b-hf": 4096, "01-ai/Yi-34B": 4096}
# Unsloth keeps the scales of scales that stock vLLM unpacks to 32 bits per 64 weights when it loads
_UNSLOTH_BITS = 4 + 8 / 64 + 32 / (64 * 256)
_LINKED = ("H100", "H200", "A100", "GH200", "B200", "80GB-class")


@dataclass(frozen=True)
class Point:
    """One start-up: what went in, and what the engine logged."""

    row: Row
    profile: ModelProfile
    workload: Workload
    tp: int
    pp: int
    budget: int

    @property
    def name(self) -> str:
        return self.row["id"]

    @property
    def fitted(self) -> bool:
        return self.row["outcome"] == "ok"

    @property
    def stages(self) -> tuple[RankMemory, ...]:
        return ranks(self.profile, self.tp, stage_layers(self.profile.layers, self.pp), self.workload)

    @property
    def tightest(self) -> RankMemory:
        return max(self.stages, key=lambda rank: rank.least)

    @property
    def predicted_gib(self) -> float:
        """KV cache of the tightest stage."""
        return self.tightest.kv_cache(self.budget) / GIB

    @property
    def given_weights_gib(self) -> float | None:
        """The same with the weights as the engine logged them."""
        logged = self.row["weights_gib_per_gpu"]
        if not logged or "weights+non_torch" in self.row["note"].replace(" ", ""):
            return None
        return self.predicted_gib + self.tightest.weights / GIB - float(logged)

    @property
    def logged_gib(self) -> float | None:
        """KV GiB as logged; from the tokens where the fullest stage logged no GiB."""
        tokens = self.row["kv_tokens"]
        logged = self.row["kv_gib_per_gpu"]
        if tokens and not self.profile.sliding_window and (not logged or self.pp > 1):
            per_token = self.tightest.request / self.tightest.tokens_per_request
            return int(tokens) * per_token / GIB
        return float(logged) if logged else None

    @property
    def verdict(self) -> bool:
        """Whether the model says it fits: KV for one whole request on every stage."""
        return all(rank.kv_cache(self.budget) >= rank.request for rank in self.stages)


def points() -> list[Point]:
    """Every row whose model's shape is known."""
    shapes = {row["hf_id"]: row for row in _rows("vllm_models.csv")}
    return [
        _point(row, shapes[row["model"]]) for row in _rows("vllm_kv_points.csv") if row["model"] in shapes
    ]


def _point(row: Row, shape: Row) -> Point:
    release = release_of(row["vllm_version"] if row["vllm_version"][:1].isdigit() else "0.15")
    profile = _profile(row, shape)
    card_gib = min(float(part) for part in row["gpu_mem_gib"].split("/"))
    return Point(
        row=row,
        profile=profile,
        workload=_workload(row, profile, release, card_gib),
        tp=int(row["tp"]),
        pp=int(row["pp"]),
        budget=int(float(row["gpu_memory_utilization"] or release.utilization) * card_gib * GIB),
    )


def _workload(row: Row, profile: ModelProfile, release: Release, card_gib: float) -> Workload:
    length = int(row["max_model_len"] or min(profile.max_len, _LENGTHS.get(row["model"], profile.max_len)))
    old = 7.5 if row["gpu"].startswith(("T4", "V100", "RTX 20")) else None
    seqs, tokens = release.defaults(int(card_gib * 1024), row["gpu"], length, old)
    fp8 = row["kv_cache_dtype"].startswith("fp8")
    return Workload(
        max_model_len=length,
        max_num_seqs=int(row["max_num_seqs"] or seqs),
        max_batched_tokens=int(row["max_num_batched_tokens"] or tokens),
        kv_dtype_bytes=1 if fp8 else 2,
        enforce_eager=row["enforce_eager"] == "true",
        expert_parallel="EP" in row["note"].replace(";", " ").split(),
        linked=row["gpu"].startswith(_LINKED),
        release=release,
    )


def _profile(row: Row, shape: Row) -> ModelProfile:
    name = row["model"]
    kind = next((kind for part, kind in _TYPES if part in name.lower()), "llama")
    config: dict[str, Any] = {key: int(value) for key, value in shape.items() if value.isdigit()}
    config.pop("head_dim" if not shape["head_dim"] else "", None)
    config |= {
        "model_type": kind,
        "tie_word_embeddings": shape["tie_word_embeddings"] == "true",
        "num_experts_per_tok": config.pop("experts_per_tok", None),
        "max_position_embeddings": 131_072,
        "quantization_config": _METHODS[row["quantization"]],
        "attention_bias": kind == "gpt_oss",
        **_FACTS.get(name, {}),
    }
    profile = profile_of_config(config, name, source="reference data")
    return replace(
        profile,
        extra_parameters=_tower(row, profile),
        generates="pooling" not in row["note"],
        bits=_UNSLOTH_BITS if "Unsloth" in row["note"] else profile.bits,
    )


def _tower(row: Row, profile: ModelProfile) -> int:
    """Vision towers: published parameters less the language model's, where the source says there is one."""
    if "multimodal" not in row["note"] or not row["params_b"]:
        return 0
    return max(0, round(float(row["params_b"]) * 1e9) - counted_parameters(profile))


def _rows(name: str) -> list[Row]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
