"""What was seen of a host, before anybody judges it. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Reach(StrEnum):
    """How far a program could be reached."""

    ANSWERS = "answers"
    ABSENT = "absent"  # not there at all
    DENIED = "denied"  # it is there and lets us not in
    SILENT = "silent"  # it is there, or should be, and did not answer in time


@dataclass(frozen=True)
class Gpu:
    """`cards`: PCI display devices by vendor. `nvml` and the reason it gave; versions where told.

    `kernel_version`: of the loaded NVIDIA module, which must be the library's.
    """

    nvidia_cards: int = 0
    amd_cards: int = 0
    nvml: Reach = Reach.ABSENT
    nvml_error: str = ""
    driver_version: str | None = None
    kernel_version: str | None = None
    kfd: Reach = Reach.ABSENT  # AMD's compute device


@dataclass(frozen=True)
class Docker:
    """`compose`: its version, None without it. `nvidia_runtime`: containers can be given NVIDIA GPUs."""

    reach: Reach = Reach.ABSENT
    version: str | None = None
    compose: str | None = None
    toolkit: bool = False  # installed
    nvidia_runtime: bool = False  # known to Docker, or there is a CDI description


@dataclass(frozen=True)
class Port:
    """`ours`: a program of this suite listens. `owner`: name and pid, where this user may see it."""

    number: int
    wanted_by: str
    variable: str
    free: bool
    ours: bool = False
    owner: str | None = None


@dataclass(frozen=True)
class Nats:
    """`address` without a login."""

    address: str
    reach: Reach
    detail: str = ""


@dataclass(frozen=True)
class Clock:
    """`ahead_seconds`: this host's clock minus the other's, known to `within_seconds`."""

    compared_with: str
    ahead_seconds: float
    within_seconds: float = 1.0


@dataclass(frozen=True)
class Disk:
    label: str
    path: str
    free_mb: int
    total_mb: int


@dataclass(frozen=True)
class ModelFolder:
    path: str
    exists: bool
    readable: bool = True
    models: int = 0
    unreadable: str | None = None  # a path inside that may not be read


@dataclass(frozen=True)
class Wsl:
    """`memory_mb`: what Linux was given; `capped`: whether a `.wslconfig` says how much."""

    memory_mb: int
    capped: bool


@dataclass(frozen=True)
class SecretFile:
    path: str
    mode: int
    own: bool  # of this user, or root's


@dataclass(frozen=True)
class Facts:
    """`docker`, `models`: None from inside a container that is shown neither.

    `nats`: None where no server is to be there yet. `token_well_formed`: of HF_TOKEN, None without one;
    the token itself is never kept here.
    """

    gpu: Gpu
    docker: Docker | None
    ports: tuple[Port, ...] = ()
    nats: Nats | None = None
    clock: Clock | None = None
    disks: tuple[Disk, ...] = ()
    models: ModelFolder | None = None
    token_well_formed: bool | None = None
    wsl: Wsl | None = None
    open_files: int | None = None
    secrets: tuple[SecretFile, ...] = ()
