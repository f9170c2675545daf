"""Hostile input on every route and subject: a 4xx or a counted rejection, never a 500."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from compute_cli.suite import SERVICES
from compute_common import subjects
from tests.support.suite import RunningSuite

pytestmark = pytest.mark.engine

HOSTILE_NAMES = [
    "../../x",
    "..%2F..%2Fx",
    "a;rm -rf",
    "x" * 10_000,
    "%00",
    "a%0Ab",
    "%ff",
    "-rf",
    "$(id)",
]
BROKEN = [b"{", b"\xff\xfe{}", b"[]", b"null", b"3", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 50_000, b""]
WRONG: list[dict[str, Any]] = [
    {},
    {"node_id": "../../x", "hostname": "h"},
    {"node_id": "a;rm -rf", "hostname": "h"},
    {"node_id": "x" * 10_000, "hostname": "h"},
    {"node_id": ["n"], "hostname": {"h": 1}},
    {"node_id": "n", "hostname": "h", "gpus": "two"},
    {"work_id": "../../x", "result": 1},
    {"work_id": "w", "attempt": "first", "node_id": 7},
    {"work_type": 7, "payload": "text"},
    {"work_type": "x", "priority": 99},
    {"model_name": "../../etc/passwd"},
    {"model_name": "a;rm -rf", "instance_name": "../x"},
    {"gpu_indices": [-1], "required_mb": -5},
    {"gpu_indices": [0, 0], "required_mb": 10**30},
    {"benchmark_id": "../../x"},
    {"batch_sizes": [0], "context_lengths": [-1], "model_name": "m"},
]
TEMPLATES = [
    ("node-registry", "GET", "/api/v1/nodes/{}"),
    ("node-registry", "DELETE", "/api/v1/nodes/{}"),
    ("node-registry", "POST", "/api/v1/nodes/{}/drain"),
    ("work-marshaling", "GET", "/api/v1/work/{}"),
    ("work-marshaling", "DELETE", "/api/v1/work/{}"),
    ("vllm-orchestrator", "GET", "/api/v1/vllm/instances/{}"),
    ("vllm-orchestrator", "DELETE", "/api/v1/vllm/instances/{}"),
    ("gpu-orchestrator", "DELETE", "/api/v1/gpu/reservations/{}"),
    ("benchmark-runner", "GET", "/api/v1/benchmark/{}"),
    ("benchmark-runner", "DELETE", "/api/v1/benchmark/{}"),
]
POSTS = [
    ("node-registry", "/api/v1/nodes/register"),
    ("node-registry", "/api/v1/nodes/heartbeat"),
    ("node-registry", "/api/v1/nodes/query"),
    ("work-marshaling", "/api/v1/work/submit"),
    ("vllm-orchestrator", "/api/v1/vllm/deploy"),
    ("vllm-orchestrator", "/api/v1/vllm/plan"),
    ("gpu-orchestrator", "/api/v1/gpu/reserve"),
    ("gpu-orchestrator", "/api/v1/gpu/can-fit"),
    ("benchmark-runner", "/api/v1/benchmark/run"),
]
SUBJECTS = [
    value
    for name, value in vars(subjects).items()
    if name.isupper() and isinstance(value, str) and ".v1" in value
]
REQUESTS = [
    (subjects.NODES_QUERY, {"online_only": False}),
    (subjects.WORK_STATUS, {}),
    (subjects.VLLM_REQUEST, {"model_name": "no/such-model", "dry_run": True}),
    (subjects.gpu_subject("states", "test-node"), {}),
    (subjects.vllm_subject("status", "test-node"), {}),
    (subjects.BENCHMARK_STATUS, {"benchmark_id": "none"}),
]


@pytest.mark.parametrize(("service", "method", "template"), TEMPLATES)
def test_hostile_names_in_paths(suite: RunningSuite, service: str, method: str, template: str) -> None:
    for name in HOSTILE_NAMES:
        answer = suite.request(method, service, template.format(name))
        assert 400 <= answer.status_code < 500, (name[:40], answer.status_code, answer.text[:300])
        assert answer.json()["type"].startswith("urn:compute:error:")


@pytest.mark.parametrize(("service", "path"), POSTS)
def test_broken_bodies(suite: RunningSuite, service: str, path: str) -> None:
    headers = {"content-type": "application/json"}
    for body in BROKEN:
        answer = suite.request("POST", service, path, content=body, headers=headers)
        if path.endswith("/query") and body == b"":
            continue  # no filter: everything
        assert 400 <= answer.status_code < 500, (body[:20], answer.status_code, answer.text[:300])
    for wrong in WRONG:
        answer = suite.request("POST", service, path, json=wrong)
        assert answer.status_code < 500, (wrong, answer.text[:300])


async def test_broken_messages_on_every_subject(suite: RunningSuite) -> None:
    client = await nats.connect(suite.nats_url)
    try:
        await _send_broken_messages(client)
        for subject, body in REQUESTS:
            answer = json.loads((await client.request(subject, json.dumps(body).encode(), timeout=20)).data)
            assert isinstance(answer, dict), subject
    finally:
        await client.close()
    for spec in SERVICES:
        assert suite.get(spec.name, "/healthz")["status"] == "healthy", spec.name
        metrics = suite.request("GET", spec.name, "/metrics").text
        assert 'outcome="error"' not in metrics, spec.name
    rejected = suite.request("GET", "node-registry", "/metrics").text
    assert 'subject="compute.nodes.announce.v1"' in rejected
    assert 'outcome="rejected"' in rejected


async def _send_broken_messages(client: Client) -> None:
    own = [
        subjects.node_subject("test-node", verb) for verb in ("completed", "failed", "progress", "announce")
    ]
    for subject in [*SUBJECTS, *own, *(subject for subject, _ in REQUESTS)]:
        for data in [*BROKEN, *(json.dumps(wrong).encode() for wrong in WRONG)]:
            await client.publish(subject, data)
        await client.flush()


def test_work_still_flows_afterwards(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    body = {
        "work_type": "inference",
        "model_name": smollm2["instance_name"],
        "payload": {"prompt": "Hi", "max_tokens": 2},
    }
    work_id = suite.post("work-marshaling", "/api/v1/work/submit", body)["work_id"]
    item = suite.get("work-marshaling", f"/api/v1/work/{work_id}", params={"wait": 30})
    assert item["status"] == "completed", item


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A suite of its own: what the fuzzer drains, cancels and reserves is nobody else's."""
    running = RunningSuite(tmp_path_factory.mktemp("fuzz") / "home")
    running.start()
    yield running
    running.stop()


LONG_POLL = (
    "/api/v1/work/{work_id}"  # on its own: the fuzzer would find ids of pending items and wait for them
)
RUNS = [
    *((spec.name, ["--exclude-path-regex", "/events$", "--exclude-path", LONG_POLL]) for spec in SERVICES),
    ("work-marshaling", ["--include-path", LONG_POLL]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("service", "selection"), RUNS)
def test_schemathesis(fuzzed: RunningSuite, service: str, selection: list[str], tmp_path: Path) -> None:
    """Every operation of the service's own OpenAPI document, with generated input."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    run = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{fuzzed.url(service)}/openapi.json",
                *selection,
            ),
            *("--checks", checks, "--phases", "coverage,fuzzing", "--max-examples", "12", "--seed", "7"),
            *("--request-timeout", "40", "--generation-database", "none"),
            *("--suppress-health-check", "all", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
