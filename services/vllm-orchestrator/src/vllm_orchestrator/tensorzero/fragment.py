"""Ready instances as TensorZero's configuration: one TOML file a model, its instances its providers.

The rules were seen on the gateway of the `tensorzero` wheel 2026.6.0. A routing that names no provider, a
provider outside it, one model in two files, a missing `api_key_location`: each stops it from starting.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

from compute_common.enums import InstanceStatus
from compute_common.ids import slug
from compute_common.tensorzero import declarations
from vllm_orchestrator.gateway.replicas import engine_model
from vllm_orchestrator.instances.record import Record

PREFIX = "compute-"
RESERVED = "tensorzero::"
METRICS = f"{PREFIX}0.toml"  # always there: a glob that matches no file stops the gateway from starting
HEAD = "# Written by the vLLM orchestrator; changes are overwritten.\n"
SECONDS_WHOLE = 600
SECONDS_FIRST_TOKEN = 120


def fragments(records: Iterable[Record]) -> dict[str, str]:
    """File name → content, of every model that a ready instance serves, and of what benchmarks publish."""
    models: dict[str, list[Record]] = {}
    for record in records:
        ready = record.status is InstanceStatus.READY and record.endpoints.api
        if ready and not record.model_name.startswith(RESERVED):
            models.setdefault(record.model_name, []).append(record)
    files = {file_name(model): fragment(model, replicas) for model, replicas in models.items()}
    return {METRICS: HEAD + declarations(), **files}


def file_name(model: str) -> str:
    """Unlike for unlike models, whatever characters they have."""
    digest = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{PREFIX}{slug(model, 'model')[:60]}-{digest}.toml"


def fragment(model: str, replicas: Iterable[Record]) -> str:
    """One model; its instances by name are providers and, in that order, each other's fallback."""
    providers = {record.instance_name: _provider(record, model) for record in replicas}
    order = sorted(providers)
    lines = [HEAD, f"[models.{_text(model)}]", f"routing = [{', '.join(map(_text, order))}]"]
    for name in order:
        lines += ["", f"[models.{_text(model)}.providers.{_text(name)}]"]
        lines += [f"{key} = {value}" for key, value in providers[name].items()]
    return "\n".join(lines) + "\n"


def _provider(record: Record, model: str) -> Mapping[str, str]:
    whole, first = SECONDS_WHOLE * 1000, SECONDS_FIRST_TOKEN * 1000
    return {
        "type": '"vllm"',  # llama-server speaks the same
        "model_name": _text(engine_model(record, model)),
        "api_base": _text(f"{record.endpoints.api}/"),
        "api_key_location": '"none"',
        "timeouts": f"{{ non_streaming.total_ms = {whole}, streaming.ttft_ms = {first} }}",
    }


def _text(value: str) -> str:
    """A TOML basic string: JSON's, and DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
