"""Which GPUs reach each other over NVLink: from the links' own state, never from a name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compute_common.nvml import GpuLostError

MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS
MOST_ASKED_IN_PAIRS = 16
TO_SWITCH = 2  # NVML_NVLINK_DEVICE_TYPE_SWITCH
TO_GPU = 0
P2P_NVLINK, P2P_OK = 2, 0
SWITCH = -1

Ends = Mapping[int, Counter[int]]


@dataclass(frozen=True)
class LinkFound:
    """A fast path to the GPU `to`: direct (`nvlink`, `xgmi`) or through a switch; `lanes` links wide."""

    to: int
    kind: str
    lanes: int | None = None


class Card(Protocol):
    """One GPU that can be asked; a question raises GpuLostError once it is gone."""

    @property
    def index(self) -> int: ...

    @property
    def handle(self) -> Any: ...

    def quietly(self, call: str, *arguments: Any) -> Any:
        """What NVML answers to `call(handle, *arguments)`; None where it refuses."""

    def source(self, field: str, where: str) -> None:
        """Told which call `field` was read from."""


def read_links(cards: Sequence[Card]) -> dict[int, tuple[LinkFound, ...]]:
    """Per GPU its links. Where the links cannot be read, peer-to-peer status tells who is joined."""
    places = {place: card.index for card in cards if (place := _place(_bus(card))) is not None}
    ends: dict[int, Counter[int]] = {}
    blind: list[Card] = []
    for card in cards:
        found = _ends(card, places)
        if found is None:
            blind.append(card)
        else:
            ends[card.index] = found
            card.source("links", "nvmlDeviceGetNvLinkState")
    links = joined(ends)
    if 2 <= len(blind) <= MOST_ASKED_IN_PAIRS:
        links |= _by_peer_status(blind)
    return links


def joined(ends: Ends) -> dict[int, tuple[LinkFound, ...]]:
    """Direct links as they are; all GPUs on switches reach each other with their whole width."""
    on_switch = {index: count[SWITCH] for index, count in ends.items() if count[SWITCH]}
    found = {}
    for index, count in ends.items():
        direct = [LinkFound(to, "nvlink", lanes) for to, lanes in count.items() if to != SWITCH]
        switched = [
            LinkFound(peer, "nvswitch", min(width, on_switch[index]))
            for peer, width in on_switch.items()
            if index in on_switch and peer != index
        ]
        found[index] = tuple(sorted([*direct, *switched], key=lambda link: link.to))
    return found


def _ends(card: Card, places: Mapping[tuple[int, int, int], int]) -> Counter[int] | None:
    """How many links of this GPU end at which GPU or switch; None where it tells of none."""
    found: Counter[int] = Counter()
    told = False
    try:
        for link in range(MOST_LINKS):
            state = card.quietly("nvmlDeviceGetNvLinkState", link)
            if state is None:
                break
            told = True
            end = _end(card, link, places) if state else None
            if end is not None:
                found[end] += 1
    except GpuLostError:
        return Counter()
    return found if told else None


def _end(card: Card, link: int, places: Mapping[tuple[int, int, int], int]) -> int | None:
    kind = card.quietly("nvmlDeviceGetNvLinkRemoteDeviceType", link)
    if kind == TO_SWITCH:
        return SWITCH
    if kind not in (None, TO_GPU):
        return None  # a POWER processor
    place = _place(card.quietly("nvmlDeviceGetNvLinkRemotePciInfo", link))
    if place is None:
        return None
    unseen = SWITCH if kind is None else None  # old drivers do not tell a switch from a GPU
    return places.get(place, unseen)


def _by_peer_status(cards: Sequence[Card]) -> dict[int, tuple[LinkFound, ...]]:
    for card in cards:
        card.source("links", "nvmlDeviceGetP2PStatus")
    return {
        card.index: tuple(
            LinkFound(peer.index, "nvlink") for peer in cards if peer is not card and _peers(card, peer)
        )
        for card in cards
    }


def _peers(card: Card, peer: Card) -> bool:
    try:
        status = card.quietly("nvmlDeviceGetP2PStatus", peer.handle, P2P_NVLINK)
    except GpuLostError:
        return False
    return bool(status == P2P_OK and status is not None)


def _bus(card: Card) -> Any:
    try:
        return card.quietly("nvmlDeviceGetPciInfo")
    except GpuLostError:
        return None


def _place(pci: Any) -> tuple[int, int, int] | None:
    return None if pci is None else (int(pci.domain), int(pci.bus), int(pci.device))
