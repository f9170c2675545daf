"""One instance over two hosts: each of them has the model files before an engine starts."""

import json
import struct
from pathlib import Path

import psutil
import pytest

from tests.integration.vllm_orchestrator.hosts import INSTANCES, TINY_LLAMA, until_status
from tests.integration.vllm_orchestrator.two_hosts import HEAD, TAIL, Pair

OURS = {
    "model_name": "acme/tiny",
    "instance_name": "qwen",
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
}
HEADER = json.dumps({"w": {"dtype": "BF16", "shape": [2, 64], "data_offsets": [0, 256]}}).encode()
TINY = {
    "config.json": json.dumps(TINY_LLAMA).encode(),
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(256),
}


def give_model(home: Path) -> None:
    folder = home / "models" / "acme" / "tiny"
    folder.mkdir(parents=True)
    for name, content in TINY.items():
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("holder", [HEAD, TAIL])
async def test_every_host_gets_the_files_first(pair: Pair, holder: str) -> None:
    """Whichever of the two has them, and whichever is asked."""
    give_model(pair.homes[holder])
    answer = await pair.head.post("/api/v1/vllm/deploy", json=OURS)
    assert answer.status_code == 202, answer.text
    ready = await until_status(pair.head, "qwen", "ready", "failed")
    assert ready["status"] == "ready", ready["last_error"]
    for node_id, home in pair.homes.items():
        argv = psutil.Process(pair.pid(node_id)).cmdline()
        folder = Path(argv[argv.index("serve") + 1])
        assert folder == home / "models" / "acme" / "tiny"
        assert contents(folder) == TINY
    await pair.head.delete(f"{INSTANCES}/qwen")


async def test_a_host_that_cannot_get_them_is_named(pair: Pair) -> None:
    give_model(pair.homes[HEAD])
    (pair.homes[TAIL] / "models").write_text("no folder")
    assert (await pair.head.post("/api/v1/vllm/deploy", json=OURS)).status_code == 202
    failed = await until_status(pair.head, "qwen", "failed", "ready")
    assert failed["status"] == "failed"
    assert f"the model cannot come to node '{TAIL}': models cannot be written to" in failed["last_error"]
    assert await pair.reserved() == [0, 0]
