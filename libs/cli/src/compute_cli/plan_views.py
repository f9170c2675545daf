"""Plans and models as tables for people."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compute_cli.views import Row, gib, place_words, table

MAX_REFUSED = 20


def plan_view(answer: Row) -> RenderableType:
    """The chosen layout with its memory, what else would do, and what would not and why."""
    plan = answer.get("plan")
    parts: list[RenderableType] = [Text(answer["explanation"]), Text()]
    if plan:
        parts += [_chosen(plan), Text()]
    if answer.get("alternatives"):
        parts += [_alternatives(answer["alternatives"], fits=answer["fits"]), Text()]
    if answer.get("rejected"):
        parts.append(_rejected(answer["rejected"]))
    return Group(*parts)


def models_table(models: Iterable[Row], *, fits: bool) -> Table:
    """Models by name; with `fits` how each would run."""
    if not fits:
        rows = (
            (m["model_name"], _billions(m), gib(m["weights_mb"]), m["max_model_len"], _yes(m["local"]))
            for m in models
        )
        return table("Models", ("model", "parameters", "weights", "context", "here"), rows)
    fitting = (
        (
            model["model_name"],
            _billions(model),
            gib(model["weights_mb"]),
            model["strategy"],
            model["gpus"] or "RAM",
            model["context"],
            model["expected_tokens_per_s"],
            _yes(model["local"]),
        )
        for model in models
    )
    columns = ("model", "parameters", "weights", "strategy", "GPUs", "context", "tokens/s", "here")
    return table("Models that fit now", columns, fitting)


def _chosen(plan: Row) -> Table:
    memory, config = plan["memory"], plan["config"]
    rows = (
        (
            "layout",
            f"{plan['strategy']}, TP {plan['tensor_parallel_size']} x PP {plan['pipeline_parallel_size']}",
        ),
        ("where", ", ".join(place_words(place) for place in plan["placement"])),
        ("weights", gib(memory["weights_mb"])),
        ("activations", gib(memory["activations_mb"])),
        ("overhead", gib(memory["overhead_mb"])),
        ("KV cache", f"{gib(memory['kv_cache_mb'])}, {memory['kv_cache_tokens']} tokens"),
        ("in all, per GPU", gib(memory["total_mb"])),
        ("context", config.get("max_model_len")),
        ("expected tokens/s", config.get("expected_tokens_per_s")),
        ("model known from", memory["source"]),
    )
    return table("Plan", ("", ""), rows)


def _alternatives(found: Iterable[Row], *, fits: bool) -> Table:
    rows = (
        (
            number,
            option["change"],
            option.get("strategy"),
            option.get("max_model_len"),
            option.get("kv_cache_tokens"),
            option.get("expected_tokens_per_s"),
        )
        for number, option in enumerate(found, start=2 if fits else 1)
    )
    title = "Next best" if fits else "What would fit"
    return table(
        title, ("", "layout" if fits else "change", "strategy", "context", "KV tokens", "tokens/s"), rows
    )


def _rejected(found: list[Any]) -> Table:
    rows = [(each["layout"], each["reason"]) for each in found[:MAX_REFUSED]]
    left = len(found) - len(rows)
    if left > 0:
        rows.append((f"and {left} more", "--json shows all"))
    return table("Refused", ("layout", "reason"), rows)


def _billions(model: Row) -> str | None:
    count = model.get("parameters")
    return f"{count / 1e9:.1f} B" if count else None


def _yes(value: bool) -> str | None:
    return "yes" if value else None
