"""The catalogue: well-known models with their published shapes, so that a name alone can be planned."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from vllm_orchestrator.models.profile import ModelProfile


@cache
def catalogue() -> tuple[ModelProfile, ...]:
    """Every entry of catalogue.json, in its order."""
    text = files("vllm_orchestrator.models").joinpath("catalogue.json").read_text("utf-8")
    return tuple(_profile(entry) for entry in json.loads(text))


@cache
def _by_name() -> dict[str, ModelProfile]:
    found: dict[str, ModelProfile] = {}
    for profile in catalogue():
        for name in (profile.name, profile.name.rpartition("/")[2], *profile.aliases):
            found.setdefault(name.lower(), profile)
    return found


def lookup(name: str) -> ModelProfile | None:
    """The entry `name` means (id, last path part or alias, ignoring case), or None."""
    return _by_name().get(name.lower()) or _by_name().get(name.rpartition("/")[2].lower())


def names() -> dict[str, str]:
    """Every name of every entry in lower case, with the name that it stands for."""
    return {name: profile.name for name, profile in _by_name().items()}


def _profile(entry: dict[str, Any]) -> ModelProfile:
    entry = {"source": "catalogue", "location": entry["name"], **entry}
    return ModelProfile(**{**entry, "aliases": tuple(entry.get("aliases", ()))})
