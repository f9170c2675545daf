"""Facts of GPU drivers, Docker and its GPU toolkit as findings. Pure."""

from collections.abc import Iterator

from compute_common.checkup.facts import Docker, Gpu, Reach
from compute_common.schemas.checkup import Finding, Level

_INSTALL = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install; under WSL: on Windows), then reboot"


def gpu_findings(gpu: Gpu) -> Iterator[Finding]:
    """One line a vendor; one for a machine without GPUs."""
    if gpu.nvidia_cards or gpu.nvml is not Reach.ABSENT:
        yield _nvidia(gpu)
    if gpu.amd_cards:
        yield _amd(gpu)
    if not (gpu.nvidia_cards or gpu.amd_cards or gpu.nvml is not Reach.ABSENT):
        yield _line("gpu driver", "no GPU on this host; engines run on the processor")


def _nvidia(gpu: Gpu) -> Finding:
    check = "nvidia driver"
    library, kernel = gpu.driver_version, gpu.kernel_version
    match gpu.nvml:
        case Reach.ABSENT:
            return _line(check, f"{gpu.nvidia_cards} cards and no driver that answers", _INSTALL, Level.BAD)
        case Reach.SILENT:
            found = "the driver does not answer"
            return _line(check, found, "look for Xid in `sudo dmesg`, then reboot this host", Level.BAD)
        case Reach.DENIED:
            return _refused(check, gpu.nvml_error)
        case Reach.ANSWERS if library and kernel and library != kernel:
            found = f"library {library}, kernel module {kernel}"
            return _line(check, found, "reboot this host: the driver was updated under it", Level.BAD)
        case _:
            return _line(check, f"version {library or 'unknown'} answers")


def _refused(check: str, error: str) -> Finding:
    if "mismatch" in error:
        found = f"library and kernel module differ ({error})"
        return _line(check, found, "reboot this host: the driver was updated under it", Level.BAD)
    if "permission" in error:
        fix = "give this program access to /dev/nvidiactl (sudo usermod -aG video,render $USER)"
        return _line(check, "NVML may not be read", fix, Level.BAD)
    return _line(check, f"NVML says: {error}", _INSTALL, Level.BAD)


def _amd(gpu: Gpu) -> Finding:
    check = "amd driver"
    if gpu.kfd is Reach.ANSWERS:
        return _line(check, f"{gpu.amd_cards} cards, /dev/kfd can be opened")
    if gpu.kfd is Reach.DENIED:
        fix = "sudo usermod -aG video,render $USER, and log in again"
        return _line(check, "/dev/kfd may not be opened", fix, Level.BAD)
    fix = "install AMD's driver (amdgpu with ROCm), then reboot"
    return _line(check, f"{gpu.amd_cards} cards and no /dev/kfd", fix, Level.WARN)


def docker_finding(docker: Docker, gpu: Gpu) -> Finding:
    """Docker runs vLLM's image; `compute up` itself does without."""
    check = "docker"
    match docker.reach:
        case Reach.DENIED:
            fix = "sudo usermod -aG docker $USER, and log in again"
            return _line(check, "its socket may not be opened", fix, Level.WARN)
        case Reach.SILENT:
            return _line(check, "installed, and does not answer", "sudo systemctl start docker", Level.WARN)
        case Reach.ANSWERS if docker.compose is None:
            fix = "install the package docker-compose-plugin"
            return _line(check, f"{docker.version} without Compose", fix, Level.WARN)
        case Reach.ANSWERS:
            return _line(check, f"{docker.version} answers, Compose {docker.compose}")
        case _ if gpu.nvidia_cards or gpu.amd_cards or gpu.nvml is Reach.ANSWERS:
            fix = "install Docker (docs.docker.com/engine/install), or vLLM itself on this host"
            return _line(check, "not installed: no vLLM in a container", fix, Level.WARN)
        case _:
            return _line(check, "not installed; engines run as processes")


def toolkit_findings(docker: Docker, gpu: Gpu) -> Iterator[Finding]:
    """NVIDIA's container toolkit, where there is a use for it."""
    if docker.reach is not Reach.ANSWERS or gpu.nvml is not Reach.ANSWERS:
        return
    check = "nvidia container toolkit"
    if docker.nvidia_runtime:
        yield _line(check, "Docker knows it")
    elif docker.toolkit:
        fix = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
        yield _line(check, "installed, and Docker was not told", fix, Level.BAD)
    else:
        fix = "install the package nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure"
        yield _line(check, "not installed: containers get no GPU", fix, Level.BAD)


def _line(check: str, found: str, fix: str | None = None, level: Level = Level.OK) -> Finding:
    return Finding(check=check, level=level, found=found, fix=fix)
