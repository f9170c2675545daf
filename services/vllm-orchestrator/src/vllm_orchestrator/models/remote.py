"""A model that is elsewhere, on the Hub or on another node: its config.json, or the header of its GGUF file,
and the sizes of its weights. Nothing else is fetched.
"""

import asyncio
import io
import json
from typing import Protocol

from compute_common.problems import Problem
from vllm_orchestrator.downloads.listing import Listing, RemoteFile, wanted
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.gguf import TruncatedError, profile_of_header
from vllm_orchestrator.models.profile import ModelProfile, ProfileError
from vllm_orchestrator.planning.plan import Model

ANSWER_SECONDS = 8.0
MAX_CONFIG_BYTES = 8 << 20
HEADER_BYTES = (1 << 20, 8 << 20, 32 << 20)  # of a GGUF file: most of it is the vocabulary
MAX_KEPT = 256


class Source(Protocol):
    """Where a model's files are to be had."""

    origin: str

    async def head(self, listing: Listing, file: RemoteFile, most: int) -> bytes: ...


class Listings(Source, Protocol):
    """A source of any model."""

    async def listing(self, name: str, revision: str = "main") -> Listing: ...


class HubModels:
    """Models that no node knows, by the Hub's word; each is asked for once."""

    def __init__(self, hub: Listings) -> None:
        self._hub = hub
        self._kept: dict[tuple[str, str | None], Model] = {}

    async def model(self, name: str, quantization: str | None) -> Model:
        """The model's profile. Raises Problem: what the Hub refused, or that it did not answer in time."""
        key = name, quantization
        if key not in self._kept:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = await model_of(self._hub, await self._hub.listing(name), quantization)
            except TimeoutError as error:
                raise Problem(503, "hub-unreachable", "the Hub did not answer in time") from error
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = found
        return self._kept[key]


async def model_of(source: Source, listing: Listing, quantization: str | None) -> Model:
    """The model of `listing` in the one form that a pull would bring. Raises Problem 422."""
    name = listing.model_name
    files = wanted(name, listing.files, quantization)
    gguf = [file for file in files if file.path.lower().endswith(".gguf")]
    try:
        if gguf:
            return Model(gguf=await _of_gguf(source, listing, gguf))
        return Model(vllm=await _of_config(source, listing, files))
    except (ProfileError, ValueError, RecursionError) as error:
        raise Problem(422, "invalid-model", f"{name} cannot be used: {error}") from error


async def _of_config(source: Source, listing: Listing, files: tuple[RemoteFile, ...]) -> ModelProfile:
    name = listing.model_name
    config = next((file for file in files if file.path == "config.json"), None)
    if config is None or config.size > MAX_CONFIG_BYTES:
        raise ProfileError(f"there is no config.json of a readable size {_where(source)}")
    told = json.loads(await source.head(listing, config, MAX_CONFIG_BYTES))
    return profile_of_config(
        told if isinstance(told, dict) else {},
        name,
        source=f"config.json of {name} {_where(source)}, revision {listing.revision[:12]}",
        weight_bytes=sum(file.size for file in files if file.path.endswith(".safetensors")),
    )


async def _of_gguf(source: Source, listing: Listing, shards: list[RemoteFile]) -> ModelProfile:
    """By as much of the first file's beginning as its header takes."""
    first = min(shards, key=lambda file: file.path)
    title = f"{first.path} {_where(source)}"
    size = sum(file.size for file in shards)
    for most in HEADER_BYTES:
        start = await source.head(listing, first, most)
        try:
            return profile_of_header(io.BytesIO(start), size, listing.model_name, title=title)
        except TruncatedError:
            if len(start) < most:
                raise
    raise ProfileError(f"the header of {first.path} is longer than {HEADER_BYTES[-1]} bytes")


def _where(source: Source) -> str:
    return "on the Hub" if source.origin == "hub" else f"on {source.origin.replace(':', ' ')}"
