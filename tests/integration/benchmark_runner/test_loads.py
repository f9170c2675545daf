"""Open loops, the search for the highest rate, chat, and prompts that share what they are told to."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.benchmark_runner.runners import RUN, counting, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving

ASK: dict[str, Any] = {"model_name": "m", "context_lengths": [8], "output_tokens": 5, "background": False}


async def test_an_open_loop_sends_at_its_rate_whatever_the_server_does(tmp_path: Path) -> None:
    """20 requests a second of 0.5 s each: ten under way at once, which one after another would never be."""
    async with scripted(Script(ttft=0.5, gap=0.001)) as server, serving(runner(tmp_path)) as client:
        ask = ASK | {"endpoint": server.url, "request_rates": [20.0], "rate_seconds": 2}
        run = (await client.post(RUN, json=ask)).json()
        (cell,) = run["cells"]
        assert (run["status"], cell["requests"], cell["request_rate"]) == ("completed", 40, 20)
        assert cell["ttft_ms"]["p50"] == pytest.approx(500, rel=0.1)
        assert server.most_at_once >= 4
        assert cell["slo_attainment"] == 1


@pytest.mark.slow
async def test_a_server_for_one_at_a_time_keeps_only_its_rate(tmp_path: Path) -> None:
    """0.1 s a request, one after another: latency from the scheduled time grows without bound above 10/s."""
    script = Script(ttft=0.09, gap=0.002, one_at_a_time=True)
    async with scripted(script) as server, serving(runner(tmp_path)) as client:
        ask = ASK | {
            "endpoint": server.url,
            "find_max_rate": True,
            "rate_seconds": 2,
            "slo": {"e2e_ms": 300, "attainment": 0.9},
        }
        run = (await client.post(RUN, json=ask)).json()
        assert run["status"] == "completed", run["error"]
        (found,) = run["max_rates"]
        assert found["limited_by"] == "slo"
        assert 2 <= found["requests_per_s"] <= 11
        assert run["progress"]["cells_done"] == run["progress"]["cells_total"] == len(run["cells"])
        broken = [cell for cell in run["cells"] if cell["request_rate"] >= 16]
        assert all(cell["slo_attainment"] < 0.9 for cell in broken)


async def test_chat_where_there_are_no_completions(tmp_path: Path) -> None:
    script = Script(ttft=0.001, gap=0.001, chat=True, tokenize=False)
    async with scripted(script) as server, serving(runner(tmp_path)) as client:
        ask = ASK | {"endpoint": server.url, "context_lengths": [50]}
        (cell,) = (await counting(client, ask))["cells"]
        assert cell["prompt_tokens"] == [50, 50], cell
        asked = (await client.post(RUN, json=ask | {"api": "completions"})).json()
        assert asked["cells"][0]["error_kinds"] == {"http-404": 1}


async def test_prompts_share_a_prefix_only_when_asked(tmp_path: Path) -> None:
    async with (
        scripted(Script(ttft=0.001, gap=0.001, true_ids=True)) as server,
        serving(runner(tmp_path)) as client,
    ):
        ask = ASK | {"endpoint": server.url, "context_lengths": [64], "warmup": 0, "repeats": 4}
        await client.post(RUN, json=ask)
        own = [prompt for prompt in server.prompts if isinstance(prompt, list)]
        server.prompts.clear()
        await client.post(RUN, json=ask | {"shared_prefix_tokens": 32})
        shared = [prompt for prompt in server.prompts if isinstance(prompt, list)]
        assert len(own) == len(shared) == 4
        assert len({tuple(prompt[:8]) for prompt in own}) == 4
        assert len({tuple(prompt[:32]) for prompt in shared}) == 1
        assert len({tuple(prompt) for prompt in shared}) == 4
