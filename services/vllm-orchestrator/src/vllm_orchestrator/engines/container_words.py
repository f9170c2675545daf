"""A planned command as the container of its platform is told it: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from compute_common.engine_containers import MODELS, Template
from compute_common.enums import EngineKind
from compute_common.problems import conflict

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- inside the container


@dataclass(frozen=True)
class Platform:
    """Which template, the cards it is given, and the rest of the environment."""

    template: Template
    devices: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def platform_of(kind: EngineKind, environment: Mapping[str, str], *, local: bool) -> Platform:
    """By the cards that the plan shows the engine. CUDA's are given one by one; inside they count from 0.

    `local`: the model is mounted, and nothing is to be asked of the Hub.
    """
    if kind is EngineKind.LLAMA_CPP:
        return Platform(Template.LLAMA, (), tuple(environment.items()))
    told = {**environment, **({"HF_HUB_OFFLINE": "1"} if local else {})}
    cards = told.pop("CUDA_VISIBLE_DEVICES", None)
    if cards is not None:
        return Platform(Template.CUDA, tuple(cards.split(",")), tuple(told.items()))
    template = Template.ROCM if "HIP_VISIBLE_DEVICES" in told else Template.CPU
    return Platform(template, (), tuple(told.items()))


def model_of(kind: EngineKind, command: Sequence[str]) -> str:
    """What the command loads: a path of this host, or a Hub id."""
    return command[2] if kind is EngineKind.VLLM else command[command.index("-m") + 1]


def words_inside(
    kind: EngineKind, command: Sequence[str], roots: Sequence[PurePath], *, alone: bool
) -> tuple[str, ...]:
    """What follows the image's entry point: the model where it is mounted, listening on every address inside.

    `roots`: the folder of models, as named and as it resolves. Raises Problem 409 for a model elsewhere.
    """
    model = model_of(kind, command)
    mounted = _mounted(model, roots)
    words = [mounted if word == model else word for word in command[2 if kind is EngineKind.VLLM else 1 :]]
    if alone:
        at = words.index("--host") + 1
        words[at] = ANY_ADDRESS
    return tuple(words)


def _mounted(model: str, roots: Sequence[PurePath]) -> str:
    if not model.startswith("/"):
        return model
    path = PurePath(model)
    for root in roots:
        if path.is_relative_to(root) and ".." not in path.parts:
            return str(PurePath(MODELS) / path.relative_to(root))
    raise conflict(
        "model-not-mounted",
        f"{path.name} is not under VLLM_MODEL_PATH ({roots[0]}), the one folder that containers see: put the"
        " model there, or set VLLM_RUNTIME=process",
    )
