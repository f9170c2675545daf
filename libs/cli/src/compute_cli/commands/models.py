"""What could run: a plan that starts nothing, and the models that fit now."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from compute_cli import plan_views
from compute_cli.client import Services
from compute_cli.console import AsJson, fail, show

MAX_FILE_BYTES = 64 << 20
_MODEL = typer.Argument(help="e.g. meta-llama/Llama-3-70B")


def plan(
    model: Annotated[str, _MODEL],
    max_model_len: Annotated[int | None, typer.Option(help="Context length, tokens.")] = None,
    quantization: Annotated[str | None, typer.Option(help="fp8, awq, gptq, …")] = None,
    kv_cache_dtype: Annotated[str | None, typer.Option(help="fp8 halves the KV cache.")] = None,
    tensor_parallel: Annotated[int | None, typer.Option("--tp", help="Tensor parallel degree.")] = None,
    pipeline_parallel: Annotated[int | None, typer.Option("--pp", help="Pipeline stages.")] = None,
    node_id: Annotated[str | None, typer.Option("--node", help="Only on this node.")] = None,
    inventory: Annotated[
        Path | None, typer.Option(help="A JSON file of node documents, to plan on instead of the cluster.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The model's config.json, when nobody knows it.")
    ] = None,
    weight_bytes: Annotated[int | None, typer.Option(help="Bytes of its weights, with --config.")] = None,
    as_json: AsJson = False,
) -> None:
    """Where a model would run and how; nothing is started."""
    given = {
        "model_name": model,
        "max_model_len": max_model_len,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
        "tensor_parallel_size": tensor_parallel,
        "pipeline_parallel_size": pipeline_parallel,
        "node_id": node_id,
        "inventory": _documents(inventory),
        "model_config": _read(config),
        "weight_bytes": weight_bytes,
    }
    body = {key: value for key, value in given.items() if value is not None}
    with Services() as services:
        answer = services.post("vllm-orchestrator", "/api/v1/vllm/plan", body)
    show(answer, as_json, plan_views.plan_view)
    if not answer["fits"]:
        raise typer.Exit(1)


def models(
    context: typer.Context,
    fits: Annotated[bool, typer.Option("--fits", help="Only those that fit now, best first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Models that a name alone can deploy; `pull` brings one onto a node."""
    if context.invoked_subcommand is not None:
        return
    with Services(timeout_seconds=120) as services:
        answer = services.get("vllm-orchestrator", "/api/v1/vllm/models", fits=fits or None)
    if fits:
        found = [model for model in answer["models"] if model["fits"]]
        answer = {**answer, "models": found, "count": len(found)}
    show(answer, as_json, lambda shown: plan_views.models_table(shown["models"], fits=fits))


def _documents(path: Path | None) -> list[Any] | None:
    """The node documents of a file: a list, one document, or an answer with `nodes`."""
    found = _read(path)
    if isinstance(found, dict):
        nodes = found.get("nodes")
        return nodes if isinstance(nodes, list) else [found]
    if found is not None and not isinstance(found, list):
        raise fail(f"{path} holds neither a node document nor a list of them")
    return found


def _read(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise fail(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise fail(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise fail(f"{path} is not JSON") from error
