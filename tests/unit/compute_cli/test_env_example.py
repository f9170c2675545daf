"""env.shared.example and the compose file name every variable the programs read."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import specification

ROOT = Path(__file__).parent.parent.parent.parent
FIXED_IN_CONTAINERS = {
    "COMPUTE_HOME", "VLLM_MODEL_PATH", "BENCHMARK_OUTPUT_DIR", "ENGINE_BIND", "ENGINE_ADVERTISE_HOST",
    "COMPUTE_PROC_ROOT", "COMPUTE_SYS_ROOT",
    "DOCKER_SOCKET", "DOCKER_PROXY_SOCKET", "DOCKER_PROXY_GROUP", "DOCKER_PROXY_ENDS_ENGINES",
    "ENGINE_DOCKER_NETWORK", "COMPUTE_NODE_ALIVE_FILE",
}  # fmt: skip


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("env_example", ROOT / "scripts" / "env_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example() -> dict[str, str]:
    lines = (ROOT / "env.shared.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_file_is_what_the_settings_say(generator: ModuleType) -> None:
    assert (ROOT / "env.shared.example").read_text() == generator.render()


def test_every_variable_has_a_meaning(generator: ModuleType) -> None:
    for _title, settings in generator.SECTIONS:
        for name, field in generator.variables(settings):
            assert field.description, name


def test_the_values_of_the_specification_are_the_defaults() -> None:
    """Its block names some variables twice; the first, inside containers, is the default."""
    given: dict[str, str] = {}
    for line in specification.environment_block().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            given.setdefault(name, value)
    given.pop("NATS_URL")  # only in the standalone part
    given.pop("NODE_REGISTRY_NATS_URL")  # NATS_URL has that value already
    assert len(given) == 10
    assert {name: example()[name] for name in given} == given


def test_compose_hands_every_variable_on(generator: ModuleType) -> None:
    files = ("docker-compose.yml", "deploy/compose.docker-runtime.yml")
    compose = "\n".join((ROOT / name).read_text() for name in files)
    handed = dict(re.findall(r"^ +(\w+): \$\{\1:-(.*)\}$", compose, re.MULTILINE))
    for _title, settings in generator.SECTIONS:
        for name, _field in generator.variables(settings):
            if name not in FIXED_IN_CONTAINERS:
                assert handed.get(name) == example()[name], name
