"""What the programs of the nodes answered, and whom to ask next. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import Field

from compute_common.enums import InstanceStatus
from compute_common.schemas.base import Text, Wire
from node_registry.rows import Row
from node_registry.status.models import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_GPUS_OF_A_NODE,
    MOST_INSTANCES,
    OverviewGpu,
    OverviewInstance,
    Voice,
)

AGAIN_SECONDS = 5.0
ABSENT_AGAIN_SECONDS = 30.0
MOST_AT_ONCE = 64


class _GpuState(OverviewGpu):
    schedulable: bool = True  # False: cut into slices, which are told beside it


class StatesAnswer(Wire):
    """Of `compute.gpu.states.v1.<node_id>`, as much as is shown."""

    gpus: list[_GpuState] = Field([], max_length=4096)


class _Progress(Wire):
    phase: Text = ""
    percent: float | None = None


class _Instance(Wire):
    instance_name: Text
    model_name: Text = ""
    status: InstanceStatus
    last_error: str | None = None
    progress: _Progress | None = None


class InstancesAnswer(Wire):
    """Of `compute.vllm.status.v1.<node_id>`, as much as is shown."""

    instances: list[_Instance] = Field([], max_length=10_000)


@dataclass(frozen=True, slots=True)
class Heard:
    """`at`: monotonic, when it was asked."""

    at: float
    ledger: Voice = Voice.UNASKED
    engines: Voice = Voice.UNASKED
    gpus: tuple[OverviewGpu, ...] = ()
    gpu_count: int = 0
    instances: tuple[OverviewInstance, ...] = ()

    @property
    def again_at(self) -> float:
        absent = self.ledger is self.engines is Voice.ABSENT
        return self.at + (ABSENT_AGAIN_SECONDS if absent else AGAIN_SECONDS)


NOBODY = Heard(float("-inf"))


def to_ask(rows: Iterable[Row], heard: Mapping[str, Heard], now: float) -> list[str]:
    """Online hosts of this suite whose turn it is, who waits longest first."""
    due = [
        (again_at, row.node_id)
        for row in rows
        if row.is_online and row.profile.facets.managed
        if (again_at := heard.get(row.node_id, NOBODY).again_at) <= now
    ]
    return [node_id for _at, node_id in sorted(due)[:MOST_AT_ONCE]]


def shown_gpus(answer: StatesAnswer) -> tuple[tuple[OverviewGpu, ...], int]:
    """(what is shown, how many there are): a card that is cut counts as its slices."""
    whole = [gpu for gpu in answer.gpus if gpu.schedulable]
    shown = tuple(
        OverviewGpu.model_construct(
            **{
                **gpu.model_dump(exclude={"schedulable"}),
                "name": gpu.name[:LONGEST_NAME],
                "health": gpu.health[:LONGEST_TEXT],
            }
        )
        for gpu in whole[:MOST_GPUS_OF_A_NODE]
    )
    return shown, len(whole)


def shown_instances(node_id: str, answer: InstancesAnswer) -> tuple[OverviewInstance, ...]:
    """The instances of one orchestrator."""
    return tuple(
        OverviewInstance(
            node_id=node_id,
            instance_name=each.instance_name[:LONGEST_NAME],
            model_name=each.model_name[:LONGEST_NAME],
            status=each.status,
            detail=_detail(each),
        )
        for each in answer.instances[:MOST_INSTANCES]
    )


def _detail(instance: _Instance) -> str | None:
    progress = instance.progress
    if instance.status is InstanceStatus.STARTING and progress is not None and progress.phase:
        percent = "" if progress.percent is None else f", {progress.percent:.0f} %"
        return f"{progress.phase}{percent}"[:LONGEST_TEXT]
    if instance.status in (InstanceStatus.FAILED, InstanceStatus.DEGRADED) and instance.last_error:
        return instance.last_error[:LONGEST_TEXT]
    return None
