"""The parts of the node program that need no bus."""

from pathlib import Path
from typing import Any

import pytest

from compute_common.schemas.vllm import Instance
from compute_node.admission import Admission
from compute_node.host import host_document
from compute_node.instances import api_base
from compute_node.main import main


def test_each_attempt_of_its_own_items_is_admitted_once() -> None:
    admission = Admission("me")
    assert admission.admit("me", "a", 1, 5)
    assert not admission.admit("me", "a", 1, 5)
    assert not admission.admit("other", "b", 1, 5)
    assert not admission.admit("me", "c", 1, 4)
    assert admission.admit("me", "a", 2, 6)
    admission.forget_epoch()
    assert admission.admit("me", "c", 1, 4)


def test_only_an_older_epoch_is_a_reason_to_ask() -> None:
    admission = Admission("me")
    assert not admission.is_doubted("me", "a", 1, 5)
    assert admission.admit("me", "forged", 1, 1 << 53)
    assert admission.is_doubted("me", "a", 1, 5)
    assert not admission.is_doubted("other", "a", 1, 5)
    assert not admission.is_doubted("me", "forged", 1, 5), "that attempt was taken already"
    admission.believe(5)
    assert admission.admit("me", "a", 1, 5)
    assert not admission.is_doubted("me", "b", 1, 6)


def test_the_host_is_described_by_what_can_be_read(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2048000 kB\nMemAvailable: 1024000 kB\nNonsense\nSwapTotal: x kB\n")
    document = host_document(meminfo)
    assert document["memory"] == {"total_mb": 2000, "available_mb": 1000}
    assert document["hostname"]
    assert document["cpu"]["threads"] >= 1
    assert "memory" not in host_document(tmp_path / "absent")


def instance(api: str | None) -> Instance:
    fields: dict[str, Any] = {
        "instance_name": "i",
        "instance_id": "i",
        "model_name": "m",
        "status": "ready",
        "engine": "llama_cpp",
        "strategy": "CPU",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "placement": [],
        "memory": {
            "weights_mb": 1,
            "kv_cache_mb": 1,
            "activations_mb": 1,
            "overhead_mb": 1,
            "total_mb": 4,
            "kv_cache_tokens": 1,
            "source": "test",
        },
        "endpoints": {"api": api},
        "explanation": "",
        "served_names": ["i", "m"],
        "created_at": "2026-01-01T00:00:00Z",
    }
    return Instance.model_validate(fields)


@pytest.mark.parametrize(
    ("api", "base"),
    [
        ("http://127.0.0.1:18000/v1", "http://127.0.0.1:18000"),
        ("http://127.0.0.1:18000/v1/", "http://127.0.0.1:18000"),
        ("http://127.0.0.1:18000", "http://127.0.0.1:18000"),
        ("https://gpu-1:18000/x/v1", "https://gpu-1:18000/x"),
        ("file:///etc/passwd", None),
        ("http://user:secret@host/v1", None),
        ("http:///v1", None),
        (None, None),
    ],
)
def test_only_plain_http_addresses_are_called(api: str | None, base: str | None) -> None:
    assert api_base(instance(api)) == base


def test_settings_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NODE_ID", "../../x")
    assert main([]) == 2
    assert "NODE_ID" in capsys.readouterr().err
