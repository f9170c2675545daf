"""Which words an engine of an older release is started with, and how Ray joins hosts."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.vllm_orchestrator.shapes import H100, host, known
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish
from vllm_orchestrator.rendering.argv import Serving, engine_argv
from vllm_orchestrator.rendering.compose import compose_document
from vllm_orchestrator.rendering.ray import ray_argv

SERVING = Serving(["it"], "org/model", "10.0.0.1", 18_000)
OWN_RANKS = ("--nnodes", "--node-rank", "--headless", "--master-addr", "--master-port")


def over_two_hosts(**wish: Any) -> Plan:
    hosts = [replace(host(name, 8, H100), address=f"10.0.0.{n}") for n, name in enumerate("ab", 1)]
    found = plan(Model(vllm=known("deepseek-r1")), hosts, Wish(**wish))
    assert isinstance(found, Plan)
    return found


def on_one_host(version: str | None) -> list[str]:
    found = plan(Model(vllm=known("qwen3-8b")), [host("h", 1, H100)], Wish(engine_version=version))
    assert isinstance(found, Plan)
    return engine_argv(found, SERVING)


@pytest.mark.parametrize("version", [None, "0.32.0", "v0.18.0", "0.18.1rc1", "nightly"])
def test_a_release_that_drains_is_told_for_how_long(version: str | None) -> None:
    assert "--shutdown-timeout" in on_one_host(version)


@pytest.mark.parametrize("version", ["0.17.1", "0.8.5", "v0.6.4.post1"])
def test_one_that_does_not_know_the_word_is_not(version: str) -> None:
    assert "--shutdown-timeout" not in on_one_host(version)


@pytest.mark.parametrize("version", [None, "0.12.0", "0.32.0"])
def test_hosts_are_joined_by_ranks_of_the_engine(version: str | None) -> None:
    found = over_two_hosts(engine_version=version)
    head, second = (engine_argv(found, SERVING, rank=rank) for rank in (0, 1))
    assert set(OWN_RANKS) - set(second) == set()
    assert "--headless" not in head
    assert "--distributed-executor-backend" not in head
    assert "Ray" not in found.explanation


@pytest.mark.parametrize("wish", [{"backend": "ray"}, {"engine_version": "0.10.2"}])
def test_or_by_ray_where_asked_for_or_where_there_are_none(wish: dict[str, str]) -> None:
    found = over_two_hosts(**wish)
    argv = engine_argv(found, SERVING)
    assert argv[argv.index("--distributed-executor-backend") + 1] == "ray"
    assert not set(OWN_RANKS) & set(argv)
    assert "joined by Ray, which must be in the image" in found.explanation


def test_the_head_of_a_ray_cluster_and_those_that_join_it() -> None:
    found = over_two_hosts(backend="ray")
    head, second = (ray_argv(found, rank) for rank in (0, 1))
    assert head[:3] == ["ray", "start", "--head"]
    assert head[head.index("--port") + 1] == "6379"
    assert second[2:4] == ["--address", "10.0.0.1:6379"]
    assert "--block" in second
    assert "--block" not in head
    for rank, argv in enumerate((head, second), 1):
        assert argv[argv.index("--node-ip-address") + 1] == f"10.0.0.{rank}"
        assert argv[argv.index("--num-gpus") + 1] == "8"


def test_compose_starts_ray_on_each_host_and_the_engine_once_all_have_joined() -> None:
    services = compose_document(over_two_hosts(backend="ray"), "it", SERVING, image="i:1")["services"]
    head, second = services["it"], services["it-rank-1"]
    for service in (head, second):
        assert service["entrypoint"] == ["/bin/bash", "-c"]
        assert service["network_mode"] == "host"
    assert second["profiles"] == ["rank-1"]
    first, wait, serve = head["command"][0].split(" && ")
    assert shlex.split(first)[:3] == ["ray", "start", "--head"]
    assert "get('GPU', 0) < 16" in shlex.split(wait)[3]
    assert shlex.split(serve)[:4] == ["exec", "vllm", "serve", "org/model"]
    assert "vllm" not in second["command"][0]


def test_a_hostile_name_stays_one_word_of_the_shell() -> None:
    names = Serving(["it", "a; touch $HOME/x"], "org/model", "10.0.0.1", 18_000)
    document = compose_document(over_two_hosts(backend="ray"), "it", names, image="i:1")
    serve = document["services"]["it"]["command"][0].split(" && ")[2].replace("$$", "$")
    assert "a; touch $HOME/x" in shlex.split(serve)


def test_only_ray_takes_hosts_that_hold_unlike_many() -> None:
    """Three cards on two hosts: vLLM's ranks are dealt out evenly (`--nnodes` must divide them)."""
    cards = tuple(GpuSlot(index, "nvidia", "L40S", 46_068, 46_068, 8.9) for index in range(2))
    hosts = [Host("a", cards), Host("b", cards[:1])]
    model, wish = Model(vllm=known("qwen2.5-32b")), Wish(pp=3, tp=1, max_model_len=4096, advise=False)
    assert isinstance(plan(model, hosts, wish), NoFit)
    found = plan(model, hosts, replace(wish, backend="ray"))
    assert isinstance(found, Plan)
    assert sorted(len(place.gpu_indices) for place in found.places) == [1, 2]
