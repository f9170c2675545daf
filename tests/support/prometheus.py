"""A real Prometheus with the repository's own configuration, its targets rewritten to free ports."""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.ports import free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy/prometheus"
SCRAPE_SECONDS = 1


def require_prometheus() -> str:
    """The binary; skips without one."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed: make test-deps")
    return found


class Prometheus:
    """`targets`: compose name and port, as in prometheus.yml → where it listens. `more` are scraped, too."""

    def __init__(self, folder: Path, targets: Mapping[str, str], more: Sequence[str] = ()) -> None:
        self._binary = require_prometheus()
        self._folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        config = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
        config["global"]["evaluation_interval"] = f"{SCRAPE_SECONDS}s"
        config["rule_files"] = [str(CONFIGURATION / pattern) for pattern in config["rule_files"]]
        group = config["scrape_configs"][0]["static_configs"][0]
        group["targets"] = [targets[target] for target in group["targets"]] + list(more)
        self.targets: list[str] = group["targets"]
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> "Prometheus":
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 15
        while not self._ready():
            assert time.monotonic() < deadline, (self._folder / "prometheus.log").read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The rows of an instant query; AssertionError where Prometheus refuses it."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=10)
        assert answer.status_code == 200, f"{promql}: {answer.text}"
        rows: list[dict[str, Any]] = answer.json()["data"]["result"]
        return rows

    def get(self, path: str) -> Any:
        """The `data` of another answer."""
        return json.loads(httpx.get(f"{self.url}{path}", timeout=10).text)["data"]

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False
