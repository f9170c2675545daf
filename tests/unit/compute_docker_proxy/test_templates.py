"""What a container of each platform is given, to the word; everything else is another document."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.engine_containers import (
    EngineContainer,
    container_name,
    container_of,
    create_body,
)
from compute_common.engine_images import images_of
from tests.unit.compute_docker_proxy.containers import CPU, CUDA, LLAMA, PLATFORMS, ROCM

GIB = 1 << 30
ORDINARY = {
    "NetworkMode": "bridge",
    "PortBindings": {"18007/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18007"}]},
    "Mounts": [{"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": True}],
    "RestartPolicy": {"Name": "no"},
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
    "IpcMode": "private",
    "CapDrop": ["ALL"],
}
GPU = {"Driver": "nvidia", "DeviceIDs": ["0", "3"], "Capabilities": [["gpu"]]}
KFD = {"PathOnHost": "/dev/kfd", "PathInContainer": "/dev/kfd", "CgroupPermissions": "rwm"}
DRI = {"PathOnHost": "/dev/dri", "PathInContainer": "/dev/dri", "CgroupPermissions": "rwm"}
FREE = ["no-new-privileges", "seccomp=unconfined"]


@pytest.mark.parametrize(
    ("container", "privileges"),
    [
        (LLAMA, {"SecurityOpt": ["no-new-privileges"]}),
        (CPU, {"SecurityOpt": FREE, "CapAdd": ["SYS_NICE"], "ShmSize": 4 * GIB}),
        (CUDA, {"SecurityOpt": ["no-new-privileges"], "DeviceRequests": [GPU], "ShmSize": 16 * GIB}),
        (ROCM, {"SecurityOpt": FREE, "CapAdd": ["SYS_PTRACE"], "GroupAdd": ["video"],
                "Devices": [KFD, DRI], "ShmSize": 16 * GIB}),
    ],
)  # fmt: skip
def test_privileges(container: EngineContainer, privileges: dict[str, Any]) -> None:
    assert create_body(container)["HostConfig"] == {**ORDINARY, **privileges}


@pytest.mark.parametrize("container", PLATFORMS.values(), ids=PLATFORMS)
def test_a_document_is_read_back(container: EngineContainer) -> None:
    assert container_of(json.loads(json.dumps(create_body(container)))) == container


HOST: dict[str, Any] = {
    "Privileged": True,
    "Binds": ["/:/host"],
    "VolumesFrom": ["0" * 64],
    "PidMode": "host",
    "IpcMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "CapAdd": ["SYS_ADMIN"],
    "CapDrop": [],
    "SecurityOpt": ["apparmor=unconfined"],
    "Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}],
    "DeviceCgroupRules": ["a *:* rwm"],
    "DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
    "CgroupParent": "/",
    "Runtime": "nvidia",
    "Sysctls": {"kernel.core_pattern": "|/x"},
    "ExtraHosts": ["registry:1.2.3.4"],
    "Links": ["/other:x"],
    "Tmpfs": {"/models": ""},
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "OomScoreAdj": -1000,
    "GroupAdd": ["0"],
    "ContainerIDFile": "/etc/cron.d/x",
    "VolumeDriver": "x",
    "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://evil:1"}},
    "RestartPolicy": {"Name": "always"},
    "Mounts": [],
    "PublishAllPorts": True,
    "NetworkMode": "container:abc",
}
TOP: dict[str, Any] = {
    "Entrypoint": ["/bin/sh"],
    "User": "0",
    "WorkingDir": "/",
    "Volumes": {"/x": {}},
    "NetworkingConfig": {"EndpointsConfig": {"host": {}}},
    "Healthcheck": {"Test": ["CMD-SHELL", "x"]},
    "StopSignal": "SIGKILL",
    "Hostname": "x",
    "MacAddress": "02:42:ac:11:00:02",
    "Shell": ["/bin/sh"],
    "hostconfig": {"Privileged": True},
    "Labels": {"compute.engine": "1"},
}


@pytest.mark.parametrize("field", HOST)
def test_no_other_privilege(field: str) -> None:
    body = create_body(LLAMA)
    body["HostConfig"][field] = HOST[field]
    with pytest.raises(ValueError, match=r"has another|not that of an engine"):
        refused(container_of(body))


@pytest.mark.parametrize("field", TOP)
def test_no_other_field(field: str) -> None:
    with pytest.raises(ValueError, match=r"has another|not that of an engine"):
        container_of({**create_body(LLAMA), field: TOP[field]})


def refused(container: EngineContainer) -> None:
    """A field that the template reads may be another container's; then the grants refuse it."""
    if container.network == "container:abc":
        raise ValueError("has another network")


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": False},
        {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": 1},
        {"Type": "bind", "Source": "/srv/models", "Target": "/models"},
        {"Type": "bind", "Source": "/srv/models", "Target": "/etc", "ReadOnly": True},
        {"Type": "volume", "Source": "/srv/models", "Target": "/models", "ReadOnly": True},
        {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": True,
         "BindOptions": {"Propagation": "rshared"}},
    ],
)  # fmt: skip
def test_no_other_mount(mount: dict[str, Any]) -> None:
    body = create_body(LLAMA)
    body["HostConfig"]["Mounts"] = [mount]
    with pytest.raises(ValueError, match="Mounts"):
        container_of(body)
    body["HostConfig"]["Mounts"] = [*create_body(LLAMA)["HostConfig"]["Mounts"], mount]
    with pytest.raises(ValueError, match="Mounts"):
        container_of(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(list(PLATFORMS.values())), json_values, st.data())
def test_whatever_is_changed_is_seen(container: EngineContainer, value: Any, data: st.DataObject) -> None:
    """A document with anything in it changed is refused, or is that of the container it is read as."""
    body = create_body(container)
    changed = copy.deepcopy(body)
    place: Any = changed
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = value
            break
        place = place[key]
    try:
        read = container_of(changed)
    except ValueError:
        return
    assert json.dumps(create_body(read), sort_keys=True) == json.dumps(changed, sort_keys=True)


@given(json_values)
def test_no_document_at_all_breaks_it(value: Any) -> None:
    with pytest.raises(ValueError, match="not that of an engine"):
        container_of(value)


def test_names_are_host_names_and_tell_instances_apart() -> None:
    names = {
        container_name(owner, name) for owner in ("a", "b") for name in ("x", "X", "x.y", "x_y", "x" * 128)
    }
    assert len(names) == 10
    assert all(len(name) <= 63 and name.replace("-", "").isalnum() for name in names)


def test_images_follow_the_release_and_a_registry_of_ones_own_is_kept() -> None:
    assert list(images_of("vllm/vllm-openai:v1", "l").values()) == [
        "l", "vllm/vllm-openai-cpu:v1-x86_64", "vllm/vllm-openai:v1", "vllm/vllm-openai-rocm:v1",
    ]  # fmt: skip
    assert set(images_of("here:5000/vllm@sha256:0", "l").values()) == {"l", "here:5000/vllm@sha256:0"}
