"""Every reader once: the facts of this host."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compute_common.checkup import docker_reader, gpu_reader, place_reader, port_reader
from compute_common.checkup.facts import Facts, Nats, Reach
from compute_common.checkup.judgement import findings, worst
from compute_common.checkup.port_reader import Wanted
from compute_common.schemas.checkup import Checkup
from compute_common.settings import in_container
from compute_common.times import utc_now


@dataclass(frozen=True)
class Place:
    """What a check-up is told: where this host's state is, which ports it wants, how NATS was reached.

    `registry_url`: whose clock is compared.
    """

    node_id: str
    home: Path
    environ: Mapping[str, str]
    ports: tuple[Wanted, ...] = ()
    nats: Nats | None = None
    registry_url: str | None = None

    @property
    def models(self) -> Path:
        return Path(self.environ.get("VLLM_MODEL_PATH") or self.home / "models")


def check_up(place: Place) -> Checkup:
    """Look, judge, answer. Blocks for some seconds at most: run it in a thread."""
    found = findings(gather(place))
    return Checkup(node_id=place.node_id, at=utc_now(), worst=worst(found), findings=found)


def gather(place: Place) -> Facts:
    """The facts; a reader that fails leaves its own empty."""
    environ, home = place.environ, place.home
    inside = in_container()
    docker = docker_reader.read_docker(environ)
    logins = [Path(environ["NATS_CREDS"])] if environ.get("NATS_CREDS") else []
    registry = place.registry_url
    visible = not inside or place.models.is_dir()
    return Facts(
        gpu=gpu_reader.read_gpu(),
        docker=None if inside and docker.reach is Reach.ABSENT else docker,
        ports=port_reader.read_ports(place.ports, home, environ),
        nats=place.nats,
        clock=port_reader.read_clock(registry, "the registry", environ) if registry else None,
        disks=place_reader.read_disks(home, place.models),
        models=place_reader.read_models(place.models) if visible else None,
        token_well_formed=place_reader.token_well_formed(environ),
        wsl=place_reader.read_wsl(),
        open_files=place_reader.open_file_limit(),
        secrets=place_reader.read_secrets(home, logins),
    )
