"""The detector over HTTP; older spellings stand beside today's, marked as deprecated."""

from collections.abc import Callable

from fastapi import APIRouter

from compute_common.schemas.base import JsonObject
from compute_common.schemas.checkup import Checkup
from compute_common.shell.routing import new_router
from resource_detector.answers import DetectAnswer, detect_answer, profile_answer
from resource_detector.capabilities import Capabilities, ContainerLimits, capabilities, container_limits
from resource_detector.detector import Detected, Detector
from resource_detector.findings import Hardware
from resource_detector.host_desk import HostDesk


def router(detector: Detector, document: Callable[[Hardware], JsonObject]) -> APIRouter:
    """`document` makes the announcement of a hardware."""
    routes = new_router("detection")

    def answered(found: Detected) -> DetectAnswer:
        return detect_answer(found, document(found.hardware))

    @routes.get("/api/v1/detect", response_model=DetectAnswer)
    async def detect() -> DetectAnswer:
        """This host's hardware, each value with its source; the last detection, at most a few seconds old."""
        return answered(await detector.current())

    @routes.post("/api/v1/detect/refresh", response_model=DetectAnswer)
    async def refresh() -> DetectAnswer:
        """Look again now."""
        return answered(await detector.refresh())

    @routes.get("/profile", response_model=JsonObject, deprecated=True)
    async def profile() -> JsonObject:
        """The same with the keys of older clients."""
        return profile_answer(answered(await detector.current()))

    @routes.get("/capabilities", response_model=Capabilities, deprecated=True)
    @routes.get("/api/v1/capabilities", response_model=Capabilities)
    async def what_it_can() -> Capabilities:
        """What this host can do with models."""
        return capabilities((await detector.current()).hardware)

    @routes.get("/limits", response_model=ContainerLimits, deprecated=True)
    @routes.get("/api/v1/limits", response_model=ContainerLimits)
    async def limits() -> ContainerLimits:
        """Limits for containers on this host."""
        return container_limits((await detector.current()).hardware)

    return routes


def host_router(desk: HostDesk) -> APIRouter:
    """What is wrong with this host."""
    routes = new_router("host")

    @routes.get("/api/v1/checkup", response_model=Checkup)
    async def checkup() -> Checkup:
        """Drivers, Docker, ports, NATS, clock, disk, models, limits: each ok, warn or bad with one fix."""
        return await desk.checkup()

    return routes
