"""Facts and what is said of them: the level, and the one thing to do."""

from dataclasses import replace

import pytest

from compute_common.checkup.facts import (
    Clock,
    Disk,
    Docker,
    Facts,
    Gpu,
    ModelFolder,
    Nats,
    Port,
    Reach,
    SecretFile,
    Wsl,
)
from compute_common.checkup.judgement import findings, worst
from compute_common.schemas.checkup import Level

CARD = Gpu(nvidia_cards=1, nvml=Reach.ANSWERS, driver_version="580.95.05", kernel_version="580.95.05")
DOCKER = Docker(Reach.ANSWERS, "28.1", "2.39", toolkit=True, nvidia_runtime=True)
WELL = Facts(
    gpu=CARD,
    docker=DOCKER,
    ports=(Port(8115, "node-registry", "NODE_REGISTRY_PORT", free=True),),
    nats=Nats("nats://127.0.0.1:4222", Reach.ANSWERS),
    clock=Clock("the registry", 0.3),
    disks=(Disk("COMPUTE_HOME", "/srv", 50_000, 90_000),),
    models=ModelFolder("/models", exists=True, models=2),
    token_well_formed=True,
    wsl=Wsl(16_384, capped=True),
    open_files=65_536,
    secrets=(SecretFile("/srv/api-keys.json", 0o600, own=True),),
)
TAKEN = Port(8115, "node-registry", "NODE_REGISTRY_PORT", free=False, owner="nginx (pid 7)")

CASES: list[tuple[dict[str, object], str, Level, str]] = [
    ({"gpu": Gpu()}, "gpu driver", Level.OK, ""),
    ({"gpu": Gpu(nvidia_cards=2)}, "nvidia driver", Level.BAD, "install NVIDIA's driver"),
    ({"gpu": replace(CARD, nvml=Reach.SILENT)}, "nvidia driver", Level.BAD, "dmesg"),
    ({"gpu": replace(CARD, kernel_version="570.1")}, "nvidia driver", Level.BAD, "reboot"),
    (
        {"gpu": replace(CARD, nvml=Reach.DENIED, nvml_error="driver and library version mismatch")},
        "nvidia driver",
        Level.BAD,
        "reboot",
    ),
    (
        {"gpu": replace(CARD, nvml=Reach.DENIED, nvml_error="no permission")},
        "nvidia driver",
        Level.BAD,
        "usermod",
    ),
    (
        {"gpu": replace(CARD, nvml=Reach.DENIED, nvml_error="error 999")},
        "nvidia driver",
        Level.BAD,
        "install",
    ),
    ({"gpu": Gpu(amd_cards=1, kfd=Reach.ANSWERS)}, "amd driver", Level.OK, ""),
    ({"gpu": Gpu(amd_cards=1, kfd=Reach.DENIED)}, "amd driver", Level.BAD, "usermod"),
    ({"gpu": Gpu(amd_cards=1)}, "amd driver", Level.WARN, "ROCm"),
    ({"docker": None}, "docker", Level.OK, ""),
    ({"docker": Docker()}, "docker", Level.WARN, "install Docker"),
    ({"docker": Docker(), "gpu": Gpu()}, "docker", Level.OK, ""),
    ({"docker": Docker(Reach.DENIED)}, "docker", Level.WARN, "usermod -aG docker"),
    ({"docker": Docker(Reach.SILENT)}, "docker", Level.WARN, "systemctl start docker"),
    ({"docker": replace(DOCKER, compose=None)}, "docker", Level.WARN, "docker-compose-plugin"),
    (
        {"docker": replace(DOCKER, nvidia_runtime=False)},
        "nvidia container toolkit",
        Level.BAD,
        "nvidia-ctk runtime configure",
    ),
    (
        {"docker": replace(DOCKER, toolkit=False, nvidia_runtime=False)},
        "nvidia container toolkit",
        Level.BAD,
        "install the package nvidia-container-toolkit",
    ),
    ({"ports": (TAKEN,)}, "port 8115", Level.BAD, "stop nginx (pid 7), or set NODE_REGISTRY_PORT"),
    ({"ports": (replace(TAKEN, owner=None),)}, "port 8115", Level.BAD, "NODE_REGISTRY_PORT"),
    ({"ports": (replace(TAKEN, ours=True),)}, "port 8115", Level.OK, ""),
    ({"nats": None}, "nats", Level.OK, ""),
    ({"nats": Nats("nats://a:1", Reach.SILENT)}, "nats", Level.BAD, "compute up"),
    ({"nats": Nats("nats://a:1", Reach.DENIED)}, "nats", Level.BAD, "NATS_CREDS"),
    ({"clock": None}, "clock", Level.OK, ""),
    ({"clock": Clock("x", 2.9, 1.0)}, "clock", Level.OK, ""),
    ({"clock": Clock("x", -8, 1.0)}, "clock", Level.WARN, "timedatectl"),
    ({"clock": Clock("x", 90, 1.0)}, "clock", Level.BAD, "timedatectl"),
    ({"disks": (Disk("models", "/m", 5_000, 9_000),)}, "disk of models", Level.WARN, "larger disk"),
    ({"disks": (Disk("models", "/m", 900, 9_000),)}, "disk of models", Level.BAD, "larger disk"),
    ({"models": None}, "models", Level.OK, ""),
    ({"models": ModelFolder("/m", exists=False)}, "models", Level.WARN, "VLLM_MODEL_PATH"),
    ({"models": ModelFolder("/m", exists=True, readable=False)}, "models", Level.BAD, "chmod a+rX /m"),
    ({"models": ModelFolder("/m", exists=True)}, "models", Level.WARN, "compute models pull"),
    (
        {"models": ModelFolder("/m", exists=True, unreadable="/m/a")},
        "models",
        Level.BAD,
        "chmod -R a+rX /m/a",
    ),
    ({"token_well_formed": None}, "HF_TOKEN", Level.OK, ""),
    ({"token_well_formed": False}, "HF_TOKEN", Level.WARN, "huggingface.co/settings/tokens"),
    ({"wsl": Wsl(8_192, capped=False)}, "wsl memory", Level.WARN, "wsl --shutdown"),
    ({"open_files": 1024}, "open files", Level.WARN, "ulimit -n"),
    ({"open_files": 256}, "open files", Level.BAD, "ulimit -n"),
    ({"secrets": (SecretFile("/k", 0o644, own=True),)}, "secret /k", Level.BAD, "chmod 600 /k"),
    ({"secrets": (SecretFile("/k", 0o600, own=False),)}, "secret /k", Level.BAD, "chown"),
]


def test_a_host_that_is_well() -> None:
    found = findings(WELL)
    assert worst(found) is Level.OK, [each for each in found if each.level is not Level.OK]
    assert all(each.fix is None for each in found)
    assert len({each.check for each in found}) == len(found) == 12


@pytest.mark.parametrize(("changes", "check", "level", "fix"), CASES)
def test_each_thing_that_can_be_wrong(changes: dict[str, object], check: str, level: Level, fix: str) -> None:
    found = {each.check: each for each in findings(replace(WELL, **changes))}  # type: ignore[arg-type]
    one = found[check]
    assert one.level is level
    assert fix in (one.fix or "")
    assert (one.fix is None) is (level is Level.OK), "what is well needs no fix, what is not has one"
    assert "\n" not in one.found + (one.fix or ""), "one line each"


def test_the_worst_is_the_worst() -> None:
    assert worst(findings(replace(WELL, open_files=1024))) is Level.WARN
    assert worst(findings(replace(WELL, open_files=1024, ports=(TAKEN,)))) is Level.BAD
    assert worst([]) is Level.OK
