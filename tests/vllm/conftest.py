"""Real vLLM on the CPU, opt-in: `make test-vllm` makes its venv, or VLLM_BIN names one that is there."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vllm_binary() -> Path:
    binary = Path(os.environ.get("VLLM_BIN") or ROOT / ".vllm/bin/vllm")
    if not binary.exists():
        pytest.skip("no vLLM: run `make test-vllm`, or set VLLM_BIN")
    return binary


@pytest.fixture(scope="session")
def tiny_model(
    vllm_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any]], Path]:
    """`tiny_model(name, config)`: a folder with that model, made once."""
    root = tmp_path_factory.mktemp("models")

    def make(name: str, config: dict[str, Any]) -> Path:
        folder = root / name
        if not (folder / "config.json").exists():
            subprocess.run(
                [vllm_binary.parent / "python", Path(__file__).with_name("tiny_models.py"), folder],
                input=json.dumps(config),
                text=True,
                check=True,
                capture_output=True,
            )
        return folder

    return make
