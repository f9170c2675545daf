"""The two accepted shapes of a node document, folded into one: nested, with MiB and canonical names."""

from typing import Any

from compute_common.units import gib_to_mib

Raw = dict[str, Any]

_TOTAL_MB = ("memory_mb", "total_memory_mb")
_VRAM_MB = ("gpu_vram_mb", "total_gpu_vram_mb")
_FLAT_CPU = {
    "cpu_cores": "cores",
    "cpu_threads": "threads",
    "cpu_model": "model_name",
    "cpu_mhz": "frequency_mhz",
}
_NESTED_CPU = {
    "model": "model_name",
    "name": "model_name",
    "frequency": "frequency_mhz",
    "mhz": "frequency_mhz",
}
# What the registry computes and answers; a client that posts an answer back must not overrule it.
_COMPUTED = frozenset(
    {"is_online", "is_draining", "last_heartbeat", "registered_at", "utilization_score", "status", "measured",
     "capabilities", "gpu_count", "gpu_vram_gb", "gpu_models", "gpu_driver_versions", *_VRAM_MB}
)  # fmt: skip


def nest(raw: Raw) -> Raw:
    """The nested form of a flat, nested or mixed document; values are not validated here."""
    doc = {key: value for key, value in raw.items() if value is not None}
    if "tier" in doc:
        doc.setdefault("declared_tier", doc.pop("tier"))
    for part in (_cpu(doc), _memory(doc), _gpus(doc)):
        doc.update(part)
    for key in _COMPUTED:
        doc.pop(key, None)
    return doc


def _cpu(doc: Raw) -> Raw:
    nested = doc.pop("cpu", None)
    flat = {new: doc.pop(old) for old, new in _FLAT_CPU.items() if old in doc}
    if nested is not None and not isinstance(nested, dict):
        return {"cpu": nested}  # refused by validation, with the field's name
    renamed = {_NESTED_CPU.get(key, key): value for key, value in (nested or {}).items()}
    merged = flat | renamed
    return {"cpu": merged} if merged else {}


def _memory(doc: Raw) -> Raw:
    nested = doc.pop("memory", None)
    if nested is not None and not isinstance(nested, dict):
        return {"memory": nested}
    memory = dict(nested or {})
    for key in _TOTAL_MB:
        if key in doc:
            memory.setdefault("total_mb", doc.pop(key))
    if "memory_gb" in doc:
        memory.setdefault("total_gb", doc.pop("memory_gb"))
    for kind in ("total", "available", "swap_total"):
        _gb_to_mb(memory, f"{kind}_gb", f"{kind}_mb")
    return {"memory": memory} if memory else {}


def _gpus(doc: Raw) -> Raw:
    if isinstance(doc.get("gpus"), list):
        return {"gpus": [_gpu(position, gpu) for position, gpu in enumerate(doc["gpus"])]}
    if "gpus" in doc:
        return {}
    return _gpus_from_summary(doc)


def _gpu(position: int, gpu: Any) -> Any:
    if not isinstance(gpu, dict):
        return gpu
    gpu = {key: value for key, value in gpu.items() if value is not None}
    gpu.setdefault("index", position)
    for key in ("memory_mb", "total_mb", "vram_total_mb"):
        if key in gpu:
            gpu.setdefault("vram_mb", gpu.pop(key))
    _gb_to_mb(gpu, "vram_gb", "vram_mb")
    _gb_to_mb(gpu, "memory_gb", "vram_mb")
    if isinstance(gpu.get("compute_capability"), int | float):
        gpu["compute_capability"] = f"{gpu['compute_capability']:.1f}"
    if isinstance(gpu.get("compute_capability"), list | tuple):
        gpu["compute_capability"] = ".".join(str(part) for part in gpu["compute_capability"])
    return gpu


def _gpus_from_summary(doc: Raw) -> Raw:
    """GPUs out of the flat summary: a count, a sum of memory, names. The sum is shared out evenly."""
    models = doc.get("gpu_models")
    models = [name for name in models if isinstance(name, str)] if isinstance(models, list) else []
    count = doc.get("gpu_count", len(models))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 4096:
        return {"gpus": count} if "gpu_count" in doc else {}
    total = next((doc[key] for key in _VRAM_MB if key in doc), None)
    if total is None and _is_number(doc.get("gpu_vram_gb")):
        total = gib_to_mib(doc["gpu_vram_gb"])
    if not count and not models and "gpu_count" not in doc and not total:
        return {}
    count = count or len(models) or (1 if total else 0)
    share = {"vram_mb": int(total) // count} if total is not None and _is_number(total) and count else {}
    names = [*models, *(["GPU"] * count)][:count]
    return {"gpus": [{"index": index, "name": name, **share} for index, name in enumerate(names)]}


def _gb_to_mb(record: Raw, gb: str, mb: str) -> None:
    if gb not in record:
        return
    value = record.pop(gb)
    record.setdefault(mb, gib_to_mib(value) if _is_number(value) else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
