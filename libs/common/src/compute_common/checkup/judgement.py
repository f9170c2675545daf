"""Facts of a host as findings, each with the one thing to do. Pure."""

from collections.abc import Iterable, Iterator

from compute_common.checkup.facts import Clock, Disk, Facts, ModelFolder, Nats, Port, Reach, SecretFile, Wsl
from compute_common.checkup.graphics import docker_finding, gpu_findings, toolkit_findings
from compute_common.schemas.checkup import Finding, Level

DISK_BAD_MB, DISK_WARN_MB = 1024, 10 * 1024
CLOCK_WARN_SECONDS, CLOCK_BAD_SECONDS = 2.0, 30.0
FILES_BAD, FILES_WARN = 1024, 4096
ORDER = (Level.OK, Level.WARN, Level.BAD)


def findings(facts: Facts) -> list[Finding]:
    """Every check in the order a person would go through them."""
    return list(_all(facts))


def worst(found: Iterable[Finding]) -> Level:
    return max((each.level for each in found), key=ORDER.index, default=Level.OK)


def _all(facts: Facts) -> Iterator[Finding]:
    yield from gpu_findings(facts.gpu)
    if facts.docker is None:
        yield _ok("docker", "not looked at from inside a container")
    else:
        yield docker_finding(facts.docker, facts.gpu)
        yield from toolkit_findings(facts.docker, facts.gpu)
    yield from (port_finding(port) for port in facts.ports)
    yield nats_finding(facts.nats)
    yield clock_finding(facts.clock)
    yield from (disk_finding(disk) for disk in facts.disks)
    yield models_finding(facts.models)
    yield token_finding(facts.token_well_formed)
    if facts.wsl is not None:
        yield wsl_finding(facts.wsl)
    if facts.open_files is not None:
        yield files_finding(facts.open_files)
    yield from secret_findings(facts.secrets)


def port_finding(port: Port) -> Finding:
    """Free, ours, or somebody else's."""
    check = f"port {port.number}"
    if port.free:
        return _ok(check, f"free for {port.wanted_by}")
    owner = port.owner or "a program of another user"
    if port.ours:
        return _ok(check, f"{port.wanted_by}, {owner}")
    fix = f"stop {owner}, or set {port.variable} to a free port"
    return _bad(check, f"wanted by {port.wanted_by}, held by {owner}", fix)


def nats_finding(nats: Nats | None) -> Finding:
    """Whether the bus is there and lets us in."""
    if nats is None:
        return _ok("nats", "none is wanted yet; `compute up` starts one")
    match nats.reach:
        case Reach.ANSWERS:
            return _ok("nats", f"{nats.address} lets us in")
        case Reach.DENIED:
            fix = "set NATS_USER and NATS_PASSWORD, or NATS_CREDS, or take a new `compute invite` line"
            return _bad("nats", f"{nats.address} refuses this login{_tail(nats.detail)}", fix)
        case _:
            fix = "start it with `compute up`, or set NATS_URL to where it is and open its port"
            return _bad("nats", f"no answer from {nats.address}{_tail(nats.detail)}", fix)


def clock_finding(clock: Clock | None) -> Finding:
    """Logs, certificates and deadlines go by the clock; no decision of the cluster trusts it."""
    if clock is None:
        return _ok("clock", "not compared: no registry answers here")
    off = max(0.0, abs(clock.ahead_seconds) - clock.within_seconds)
    if off < CLOCK_WARN_SECONDS:
        return _ok("clock", f"with that of {clock.compared_with}")
    way = "ahead of" if clock.ahead_seconds > 0 else "behind"
    found = f"{abs(clock.ahead_seconds):.0f} s {way} {clock.compared_with}"
    fix = "set the clock by NTP: sudo timedatectl set-ntp true (under WSL: sudo hwclock -s)"
    return Finding(check="clock", level=_level(off, CLOCK_BAD_SECONDS), found=found, fix=fix)


def disk_finding(disk: Disk) -> Finding:
    """Free space of one folder of ours."""
    found = f"{disk.free_mb / 1024:.1f} of {disk.total_mb / 1024:.1f} GiB free at {disk.path}"
    if disk.free_mb >= DISK_WARN_MB:
        return _ok(f"disk of {disk.label}", found)
    level = Level.BAD if disk.free_mb < DISK_BAD_MB else Level.WARN
    fix = "delete models that are not used, or move the folder to a larger disk"
    return Finding(check=f"disk of {disk.label}", level=level, found=found, fix=fix)


def models_finding(folder: ModelFolder | None) -> Finding:
    """Whether engines will find something to serve."""
    if folder is None:
        return _ok("models", "not looked at from inside a container")
    if not folder.exists:
        return _warn("models", f"{folder.path} is not there", "mkdir -p it, or set VLLM_MODEL_PATH")
    if not folder.readable:
        return _bad("models", f"{folder.path} may not be read", f"sudo chmod a+rX {folder.path}")
    if folder.unreadable:
        fix = f"sudo chmod -R a+rX {folder.unreadable}"
        return _bad("models", f"{folder.unreadable} may not be read", fix)
    if not folder.models:
        return _warn("models", f"none in {folder.path}", "compute models pull NAME, or copy one there")
    return _ok("models", f"{folder.models} in {folder.path}")


def token_finding(well_formed: bool | None) -> Finding:
    """Of the Hugging Face token only the form is judged; it is never shown."""
    if well_formed is None:
        return _ok("HF_TOKEN", "not set; only gated models need one")
    if well_formed:
        return _ok("HF_TOKEN", "set")
    fix = "set HF_TOKEN to a token of huggingface.co/settings/tokens: hf_ and at least 30 letters and digits"
    return _warn("HF_TOKEN", "it is set and has not the form of a token", fix)


def wsl_finding(wsl: Wsl) -> Finding:
    """Windows gives Linux half of the machine's memory unless it is told otherwise."""
    found = f"Linux has {wsl.memory_mb / 1024:.1f} GiB under WSL"
    if wsl.capped:
        return _ok("wsl memory", f"{found}, set in .wslconfig")
    fix = "put memory=<size>GB under [wsl2] in %UserProfile%\\.wslconfig, then run: wsl --shutdown"
    return _warn("wsl memory", f"{found}: half of the machine, by default", fix)


def files_finding(limit: int) -> Finding:
    """Every connection and every log is an open file."""
    found = f"at most {limit}"
    if limit >= FILES_WARN:
        return _ok("open files", found)
    level = Level.BAD if limit < FILES_BAD else Level.WARN
    fix = "ulimit -n 65536 before the start, or LimitNOFILE=65536 in the unit"
    return Finding(check="open files", level=level, found=found, fix=fix)


def secret_findings(secrets: Iterable[SecretFile]) -> Iterator[Finding]:
    """Files with keys and logins: for their owner alone."""
    for secret in secrets:
        check = f"secret {secret.path}"
        if not secret.own:
            yield _bad(check, "belongs to another user", f"sudo chown $(id -u) {secret.path}")
        elif secret.mode & 0o077:
            yield _bad(check, f"mode {secret.mode:04o}: others can open it", f"chmod 600 {secret.path}")
        else:
            yield _ok(check, f"mode {secret.mode:04o}")


def _level(value: float, bad: float) -> Level:
    return Level.BAD if value >= bad else Level.WARN


def _tail(detail: str) -> str:
    return f": {detail}" if detail else ""


def _ok(check: str, found: str) -> Finding:
    return Finding(check=check, level=Level.OK, found=found)


def _warn(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.WARN, found=found, fix=fix)


def _bad(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.BAD, found=found, fix=fix)
