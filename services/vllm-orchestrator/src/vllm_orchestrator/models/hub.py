"""A model by the Hub's word: its config.json and the sizes of its weights. Nothing else is fetched."""

import asyncio
import json
from typing import Protocol

from compute_common.problems import Problem
from vllm_orchestrator.downloads.listing import Listing, RemoteFile, wanted
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.profile import ModelProfile, ProfileError

ANSWER_SECONDS = 8.0
MAX_CONFIG_BYTES = 8 << 20
MAX_KEPT = 256


class Source(Protocol):
    """Where a model's listing and files are to be had."""

    async def listing(self, name: str, revision: str = "main") -> Listing: ...

    async def head(self, listing: Listing, file: RemoteFile, most: int) -> bytes: ...


class HubProfiles:
    """Profiles of models that nobody here knows; each is asked for once."""

    def __init__(self, hub: Source) -> None:
        self._hub = hub
        self._kept: dict[str, ModelProfile] = {}

    async def profile(self, name: str) -> ModelProfile:
        """The model's profile. Raises Problem: what the Hub refused, or that it did not answer in time."""
        if name not in self._kept:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = await self._ask(name)
            except TimeoutError as error:
                raise Problem(503, "hub-unreachable", "the Hub did not answer in time") from error
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[name] = found
        return self._kept[name]

    async def _ask(self, name: str) -> ModelProfile:
        listing = await self._hub.listing(name)
        config = next((file for file in listing.files if file.path == "config.json"), None)
        if config is None or config.size > MAX_CONFIG_BYTES:
            raise Problem(422, "invalid-model", f"{name} has no config.json of a readable size on the Hub")
        try:
            told = json.loads(await self._hub.head(listing, config, MAX_CONFIG_BYTES))
            return profile_of_config(
                told if isinstance(told, dict) else {},
                name,
                source=f"config.json of {name} on the Hub, revision {listing.revision[:12]}",
                weight_bytes=_weight_bytes(listing),
            )
        except (ProfileError, ValueError, RecursionError) as error:
            raise Problem(422, "invalid-model", f"{name}'s config.json cannot be used: {error}") from error


def _weight_bytes(listing: Listing) -> int:
    """Sizes of the safetensors files that an engine would load, their small headers included."""
    files = wanted(listing.model_name, listing.files, None)
    return sum(file.size for file in files if file.path.endswith(".safetensors"))
