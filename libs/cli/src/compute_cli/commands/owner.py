"""The owner of a machine wants it back for a while."""

import re
import time
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from compute_cli import views
from compute_cli.client import Services
from compute_cli.console import AsJson, fail, say, show

WAIT_SECONDS = 30
POLL_SECONDS = 0.5
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")


def yield_(
    target: Annotated[
        str,
        typer.Argument(metavar="NODE[:GPU]", help="A node; some of its GPUs (box:0,1); its RAM (box:ram)."),
    ],
    span: Annotated[str | None, typer.Option("--for", help="How long: 3h, 90m, 1d12h.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="A clock time here (23:00), or RFC 3339.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Give the machine back to the cluster early.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until its instances have made room.")] = True,
    as_json: AsJson = False,
) -> None:
    """Take a machine or some of its GPUs out of the cluster for its owner; it comes back by itself."""
    if (span and until) or (end and (span or until)):
        raise fail("give one of --for, --until and --end")
    node_id, indices = _target(target)
    body: dict[str, Any] = {} if indices is None else {"gpu_indices": indices}
    path = f"/api/v1/gpu/yields{'/end' if end else ''}?node_id={node_id}"
    if span:
        body["for_seconds"] = seconds_of(span)
    if until:
        body["until"] = instant_of(until, datetime.now().astimezone()).isoformat()
    with Services() as services:
        answer = services.post("gpu-orchestrator", path, body)
        if wait and not end:
            answer = _until_clear(services, node_id, answer)
    show(answer, as_json, _view)


def seconds_of(text: str) -> int:
    """`3h`, `90m`, `1d12h` in seconds; leaves with a reason when it is no such span."""
    found = _SPAN.fullmatch(text.strip().lower())
    days, hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else ()) or (0,) * 4)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise fail(f"{text!r} is no time span such as 3h, 90m or 1d12h")
    return total


def instant_of(text: str, now: datetime) -> datetime:
    """The next time the clock here shows `23:00`; or the time itself. Leaves with a reason otherwise."""
    clock = _CLOCK.fullmatch(text.strip())
    try:
        if clock is None:
            return datetime.fromisoformat(text.strip()).astimezone()
        wall = now.replace(tzinfo=None)
        then = wall.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (then if then > wall else then + timedelta(days=1)).astimezone()
    except ValueError as error:
        raise fail(f"{text!r} is no time such as 23:00 or 2026-11-23T23:00:00Z") from error


def _target(text: str) -> tuple[str, list[int] | None]:
    """(node id, GPU indices: None = all, empty = RAM)."""
    node_id, colon, devices = text.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", node_id):
        raise fail(f"{node_id!r} is no node id; see `compute nodes`")
    if not colon:
        return node_id, None
    if devices.lower() == "ram":
        return node_id, []
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", devices):
        raise fail(f"{devices!r} names no GPU: write {node_id}:0, {node_id}:0,1 or {node_id}:ram")
    return node_id, [int(index) for index in devices.split(",")]


def _until_clear(services: Services, node_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer once nothing holds memory there, or as it is after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (holders := _holders(answer)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        answer = services.get("gpu-orchestrator", "/api/v1/gpu/yields", node_id=node_id)
    if holders:
        say(f"nothing new goes there, but memory is still held by {', '.join(holders)}", "yellow")
    return answer


def _holders(answer: dict[str, Any]) -> list[str]:
    held = {
        str(entry.get("owner") or entry["reservation_id"])
        for each in answer["yields"]
        for entry in each["reservations"]
    }
    return sorted(held)


def _view(answer: dict[str, Any]) -> object:
    if not answer["yields"]:
        return f"{answer['node_id']} belongs to the cluster, all of it"
    rows = (
        (
            "RAM" if each["gpu_index"] is None else f"GPU {each['gpu_index']}",
            each["until"] or "until `compute yield NODE --end`",
            each["source"],
            ", ".join(str(r.get("owner") or r["reservation_id"]) for r in each["reservations"]) or "free",
        )
        for each in answer["yields"]
    )
    return views.table(f"Lent to the owner of {answer['node_id']}", ("what", "until", "by", "held by"), rows)
