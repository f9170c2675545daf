"""Which containers are made, which requests are let through."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.engine_containers import EngineContainer
from compute_docker_proxy.doors import passage
from compute_docker_proxy.grants import Grants
from tests.unit.compute_docker_proxy.containers import CPU, CUDA, GRANTS, LLAMA, PLATFORMS

ID = "ab" * 32


@pytest.mark.parametrize("container", PLATFORMS.values(), ids=PLATFORMS)
def test_what_the_orchestrator_asks_is_granted(container: EngineContainer) -> None:
    assert GRANTS.refusal(container, container.name) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image": "alpine"}, "the image of 'llama' is llama:1"),
        ({"image": "vllm/vllm-openai:v0.32.0"}, "the image of 'llama'"),  # not its template's
        ({"models": "/"}, "only the folder of models"),
        ({"models": "/srv/models/.."}, "only the folder of models"),
        ({"models": "/srv/models/"}, "only the folder of models"),
        ({"bind": "0.0.0.0"}, "ENGINE_BIND"),
        ({"bind": ""}, "ENGINE_BIND"),
        ({"port": 22}, "ENGINE_PORTS"),
        ({"port": -1}, "ENGINE_PORTS"),
        ({"network": "container:abc"}, "engines join"),
        ({"network": "host"}, "needs no network of the host"),
        ({"network": "none"}, "engines join"),
        ({"owner": "me"}, "labels"),
        ({"node_id": "../x"}, "labels"),
        ({"epoch": -1}, "labels"),
        ({"words": ("x",) * 300}, "command"),
        ({"words": ("a\0b",)}, "command"),
        ({"words": ("x" * 5000,)}, "command"),
        ({"environment": (("LD_PRELOAD", "/models/x.so"),)}, "LD_PRELOAD"),
        ({"environment": (("NVIDIA_VISIBLE_DEVICES", "all"),)}, "NVIDIA_VISIBLE_DEVICES"),
        ({"environment": (("VLLM_X\nLD_PRELOAD", "x"),)}, "LD_PRELOAD"),
        ({"environment": (("VLLM_X", "a\nb"),)}, "VLLM_X"),
        ({"environment": tuple((f"VLLM_{n}", "") for n in range(70))}, "too many"),
    ],
)
def test_refused(changed: dict[str, Any], reason: str) -> None:
    container = replace(LLAMA, **changed)
    assert reason in (GRANTS.refusal(container, container.name) or "")


@pytest.mark.parametrize("devices", [(), ("all",), ("-1",), ("0", "all"), ("0",) * 65, ("0\n",)])
def test_cards_are_named(devices: tuple[str, ...]) -> None:
    assert "cards" in (GRANTS.refusal(replace(CUDA, devices=devices), CUDA.name) or "")


def test_the_name_is_the_instance_s() -> None:
    assert "name" in (GRANTS.refusal(LLAMA, "postgres") or "")


def test_the_host_s_network_is_given_only_where_its_owner_says_so() -> None:
    head = replace(CPU, network="host", bind="")
    part = replace(head, port=0)  # headless: it serves nothing
    allowed = replace(GRANTS, host_network=True)
    assert "COMPUTE_ALLOW_HOST_NETWORK" in (GRANTS.refusal(head, head.name) or "")
    assert allowed.refusal(head, head.name) is None
    assert allowed.refusal(part, part.name) is None
    assert allowed.refusal(replace(head, port=22), head.name) is not None


def test_a_network_of_their_own() -> None:
    grants = replace(GRANTS, network="compute-engines")
    assert grants.refusal(replace(LLAMA, network="compute-engines", bind=""), LLAMA.name) is None
    assert "compute-engines" in (grants.refusal(LLAMA, LLAMA.name) or "")


@pytest.mark.parametrize(
    ("method", "target", "asked"),
    [
        ("GET", "/_ping", "/_ping"),
        ("GET", "/containers/json", "/containers/json"),
        ("GET", f"/containers/{ID}/json", f"/containers/{ID}/json"),
        ("POST", f"/containers/{ID}/stop?t=10", f"/containers/{ID}/stop"),
        ("DELETE", f"/containers/{ID}", f"/containers/{ID}"),
        ("GET", f"/containers/{ID}/logs?since=12.5&follow=1", f"/containers/{ID}/logs"),
    ],
)
def test_let_through(method: str, target: str, asked: str) -> None:
    path, _, query = target.partition("?")
    found = passage(method, path.encode(), query.encode())
    assert found.asked == asked


def test_only_our_containers_are_listed_and_leavings_go_with_a_container() -> None:
    assert passage("GET", b"/containers/json", b"").query == {
        "all": "1",
        "filters": '{"label": ["compute.engine=1"]}',
    }
    assert passage("DELETE", f"/containers/{ID}".encode(), b"").query == {"force": "1", "v": "1"}


REFUSED = [
    ("GET", "/info"), ("GET", "/version"), ("GET", "/v1.41/containers/json"),
    ("POST", "/build"), ("POST", "/commit"), ("POST", "/auth"), ("GET", "/events"), ("POST", "/session"),
    ("POST", "/grpc"), ("GET", "/system/df"), ("POST", "/volumes/create"), ("POST", "/networks/create"),
    ("POST", "/swarm/init"), ("POST", "/plugins/pull"), ("POST", "/images/load"),
    ("HEAD", "/_ping"), ("GET", "/_ping/"), ("GET", "//_ping"), ("GET", "/_ping%00"),
    ("POST", f"/containers/{ID}/exec"), ("POST", f"/exec/{ID}/start"), ("POST", f"/containers/{ID}/attach"),
    ("GET", f"/containers/{ID}/attach/ws"), ("POST", f"/containers/{ID}/update"),
    ("PUT", f"/containers/{ID}/archive"), ("GET", f"/containers/{ID}/archive"),
    ("GET", f"/containers/{ID}/export"), ("POST", "/containers/prune"),
    ("POST", f"/containers/{ID}/rename"), ("POST", f"/containers/{ID}/kill"),
    ("POST", "/containers/postgres/stop"), ("GET", "/containers/postgres/json"), ("DELETE", "/containers/ab"),
    ("POST", f"/containers/{ID}/../{ID}/exec"), ("POST", f"/containers/{ID}%2fexec"),
    ("POST", f"/containers/{ID}/start/../exec"), ("POST", f"/containers/{ID}/start;x"),
    ("POST", f"/containers/{ID.upper()}/start"), ("POST", f"/containers/{ID}/start\n"),
    ("POST", "/containers/../images/create"), ("CONNECT", "/_ping"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_nothing_else(method: str, path: str) -> None:
    with pytest.raises(ValueError, match="not among what engines need"):
        passage(method, path.encode(), b"")


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/containers/json", "all=1&filters={}"),
        ("GET", "/containers/json", "filters=%7B%7D"),
        ("GET", "/containers/json", "size=1"),
        ("POST", f"/containers/{ID}/stop", "t=-1"),
        ("POST", f"/containers/{ID}/stop", "t=1&t=2"),
        ("POST", f"/containers/{ID}/stop", "signal=SIGSTOP"),
        ("POST", f"/containers/{ID}/start", "detachKeys=x"),
        ("DELETE", f"/containers/{ID}", "link=1"),
        ("DELETE", f"/containers/{ID}", "force=0"),
        ("GET", f"/containers/{ID}/json", "size=1"),
        ("POST", "/containers/create", "name=../x"),
        ("POST", "/containers/create", "name=x&platform=y"),
        ("POST", "/images/create", "fromSrc=http://evil/x.tar"),
        ("POST", "/images/create", "fromImage=a&repo=b"),
        ("GET", f"/containers/{ID}/logs", "since=" + "1" * 2000),
        ("GET", f"/containers/{ID}/logs", "=1"),
        ("GET", f"/containers/{ID}/logs", "since"),
        ("GET", f"/containers/{ID}/logs", "since=\xff"),
    ],
)
def test_nothing_else_is_asked_with(method: str, path: str, query: str) -> None:
    with pytest.raises(ValueError, match="query"):
        passage(method, path.encode(), query.encode("latin-1"))


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.binary(max_size=120), st.binary(max_size=80))
def test_bytes_are_refused_or_end_at_a_known_path(method: str, path: bytes, query: bytes) -> None:
    try:
        found = passage(method, path, query)
    except ValueError:
        return
    assert re.fullmatch(
        r"/_ping|/(containers|images)/(json|create)|/containers/[0-9a-f]{64}(/\w+)?", found.asked
    )


def test_a_proxy_without_settings_grants_its_defaults_alone() -> None:
    assert Grants(images={}, models="/m", bind="127.0.0.1", ports=range(1)).host_network is False
