"""What a run measures: a registered instance, an allowed endpoint, or a model path still to be started."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, conflict, invalid, not_found
from compute_common.schemas.benchmark import BenchmarkRequest
from compute_common.schemas.vllm import Instance


@dataclass(frozen=True, slots=True)
class Target:
    """`base_url` ends in /v1; `model` is what the server is asked for; `addresses` is where it is.

    Without `addresses` nobody has judged where the URL's host leads.
    """

    base_url: str
    model: str
    instance_name: str | None = None
    node_id: str | None = None
    engine: str | None = None
    addresses: tuple[str, ...] = ()


def choose(
    request: BenchmarkRequest, instances: Sequence[Instance], allowed: frozenset[str]
) -> Target | None:
    """The target, or None when a temporary instance must be started from `model_path`.

    404 where nothing serves the model, 409 where an instance is not ready, 403 for an endpoint that is
    neither loopback, registered nor allow-listed.
    """
    if request.endpoint is not None:
        return _endpoint(request, instances, allowed)
    if request.instance_name is not None:
        return _named(request.instance_name, instances)
    if request.model_path is not None:
        return None
    wanted = request.model_name.lower()
    serving = [
        i for i in instances if wanted in {name.lower() for name in (i.instance_name, *i.served_names)}
    ]
    ready = [i for i in serving if i.status is InstanceStatus.READY and i.endpoints.api]
    if ready:
        return of_instance(ready[0])
    if serving:
        first = serving[0]
        raise conflict("not-ready", f"instance '{first.instance_name}' is {first.status.value}, not ready")
    raise not_found(
        "no-target",
        f"no ready instance serves '{request.model_name}'; deploy it, or send model_path, instance_name or "
        "endpoint",
    )


def of_instance(instance: Instance) -> Target:
    """A ready instance as a target."""
    return Target(
        base_url=str(instance.endpoints.api),
        model=_own_name(instance),
        instance_name=instance.instance_name,
        node_id=instance.node_id,
        engine=instance.engine.value,
    )


def _own_name(instance: Instance) -> str:
    """What the engine itself calls its model: Ollama knows no other name."""
    if not instance.attached:
        return instance.instance_name
    return str(instance.config.get("model") or instance.model_name)


def _named(name: str, instances: Sequence[Instance]) -> Target:
    found = next((i for i in instances if i.instance_name == name), None)
    if found is None:
        raise not_found(
            "unknown-instance", f"no instance is named '{name}'; GET /api/v1/vllm/instances lists them"
        )
    if found.status is not InstanceStatus.READY or not found.endpoints.api:
        raise conflict("not-ready", f"instance '{name}' is {found.status.value}, not ready")
    return of_instance(found)


def _endpoint(request: BenchmarkRequest, instances: Sequence[Instance], allowed: frozenset[str]) -> Target:
    parts, address = _address(str(request.endpoint))
    if parts.username or parts.query or parts.fragment:
        raise invalid("endpoint must be a plain URL: no credentials, query or fragment")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    base = base if base.endswith("/v1") else f"{base}/v1"
    owner = next((i for i in instances if i.endpoints.api and _address(i.endpoints.api)[1] == address), None)
    host = address.rpartition(":")[0]
    if owner is None and not _loopback(host) and not {host, address} & allowed:
        raise Problem(
            403,
            "endpoint-not-allowed",
            "the endpoint is neither loopback nor a registered instance; attach it to the orchestrator or "
            "name its host in BENCHMARK_ENDPOINT_ALLOW",
        )
    if owner is None:
        return Target(base, request.model_name)
    known = of_instance(owner)
    return Target(base, known.model, known.instance_name, known.node_id, known.engine)


def _address(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise invalid("endpoint is not a URL such as http://127.0.0.1:8000/v1") from error
    if not parts.hostname:
        raise invalid("endpoint names no host")
    return parts, f"{parts.hostname}:{port}"


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
