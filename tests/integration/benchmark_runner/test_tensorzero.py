"""Feedback in TensorZero: the real gateway's ids, metrics as the vLLM orchestrator declares them."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.benchmark_runner.runners import RUN, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.scripted_engine import ScriptedEngine
from vllm_orchestrator.tensorzero.fragment import METRICS, fragments

pytest.importorskip("tensorzero", reason="no tensorzero wheel for this platform")
from tests.support.tensorzero_http import tensorzero_gateway

MODEL = "org/Tiny-Model"
GATEWAY = "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"
PROVIDER = """
[models."{model}"]
routing = ["it"]
[models."{model}".providers.it]
type = "vllm"
model_name = "tiny"
api_base = "{url}/v1/"
api_key_location = "none"
"""
ASK: dict[str, Any] = {
    "model_name": MODEL,
    "batch_sizes": [1, 2],
    "context_lengths": [8],
    "output_tokens": 3,
    "background": False,
}


def configured(folder: Path, engine: ScriptedEngine) -> str:
    """What a person writes, and the file that the orchestrator keeps; the model as it would write it."""
    folder.mkdir()
    (folder / "gateway.toml").write_text(GATEWAY)
    (folder / METRICS).write_text(fragments([])[METRICS])
    (folder / "model.toml").write_text(PROVIDER.format(model=MODEL, url=engine.url))
    return f"{folder}/*.toml"


async def test_each_cell_is_feedback_on_an_inference_of_the_gateway(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, ScriptedEngine().running() as engine:
        config = configured(tmp_path / "conf", engine)
        async with (
            tensorzero_gateway(config, has_database=True) as gateway,
            serving(runner(tmp_path, TENSORZERO_URL=gateway.url)) as client,
        ):
            private = (await client.post(RUN, json=ASK | {"endpoint": server.url, "publish": False})).json()
            assert "tensorzero" not in private["environment"]
            assert not gateway.issued
            run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
    assert run["status"] == "completed"
    assert run["environment"]["tensorzero"].startswith("8 values published")
    assert len(gateway.issued) == 2
    assert len(set(gateway.issued.values())) == 1, "the cells of a run are one episode"
    for cell, inference in zip(run["cells"], gateway.issued, strict=True):
        own = {f["metric_name"]: f["value"] for f in gateway.took if f["inference_id"] == inference}
        assert own["compute_benchmark_output_tokens_per_s"] == cell["output_tokens_per_s"]
        assert own["compute_benchmark_ttft_ms_p50"] == cell["ttft_ms"]["p50"]
        assert len(own) == 4
    assert {f["tags"]["batch_size"] for f in gateway.took} == {"1", "2"}
    assert {f["tags"]["benchmark_id"] for f in gateway.took} == {run["benchmark_id"]}


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("no database", "Feedback requires observability"),
        ("no such model", "not found in model table"),
        ("not a gateway", "HTTP 404, no such route"),
        ("nobody there", "ConnectError"),
    ],
)
async def test_what_a_gateway_refuses_fails_no_run(tmp_path: Path, manner: str, words: str) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, ScriptedEngine().running() as engine:
        config = configured(tmp_path / "conf", engine)
        async with tensorzero_gateway(config, has_database=False) as gateway:
            urls = {"nobody there": "http://127.0.0.1:1", "not a gateway": server.url}
            service = runner(tmp_path, TENSORZERO_URL=urls.get(manner, gateway.url))
            name = "another" if manner == "no such model" else MODEL
            async with serving(service) as client:
                ask = ASK | {"endpoint": server.url, "batch_sizes": [1], "model_name": name}
                run = (await client.post(RUN, json=ask)).json()
    assert (run["status"], run["error"]) == ("completed", None)
    assert words in run["environment"]["tensorzero"]
    assert run["environment"]["tensorzero"].startswith("0 values published")
