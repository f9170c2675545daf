"""Every command that the documentation prints is run: here as printed, or by the test that is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import specification
from tests.support.suite import PORTS, RunningSuite

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```(bash|sh)\n(.*?)```", re.DOTALL)
_RUN_HERE = re.compile(r"^(curl |compute |\.venv/bin/compute |[A-Z_]+=\S+ \.venv/bin/python examples/)")
NOT_LIVE = re.compile(r"compute (run|up|down|join|leave|invite|service|backup|restore|purge|doctor)\b")
# A refusal is a failure, and the last work id is remembered for `<work_id>`.
_CURL = """curl() {
  local answer
  answer=$(command curl --no-progress-meter --fail-with-body -m 60 "$@") || { echo "$answer"; return 22; }
  echo "$answer"
  if [[ $answer =~ \\"work_id\\":\\"([^\\"]+)\\" ]]; then WORK_ID=${BASH_REMATCH[1]}; fi
}"""
# What is not run as printed, and the test that runs it.
ELSEWHERE = {
    r"make run": "tests/e2e/test_main_job.py",
    r"make (test|check|test-deps)": ".ci/run",
    r"make setup": "Makefile",
    r"make (format|docs|env|lock)": "Makefile",
    r"make bench": "tests/perf/test_startup.py",
    r"make bench-rivals": "tests/perf/test_queue_rivals.py",
    r"make faults": "tests/faults",
    r"make chaos": "tests/faults/test_chaos.py",
    r"make soak": "tests/perf/test_soak.py",
    r"make test-vllm": "tests/vllm",
    r"make audit": "Makefile",
    r"git clone": ".ci/run",
    r"docker compose --profile": "tests/e2e/test_compose.py",
    r"docker compose -f docker-compose.yml -f deploy/compose.docker-runtime.yml": "tests/e2e/test_compose.py",
    r"(NATS_HOST=\S+ )?compute up": "tests/e2e/test_lifecycle.py",
    r"NATS_URL=\S+ compute (node|up --host-only)": "tests/e2e/test_lifecycle.py",
    r"(\.venv/bin/)?compute (invite|join|leave|service|nats)": "tests/integration/compute_cli",
    r"compute (backup|restore)": "tests/e2e/test_backup.py",
    r"compute doctor": "tests/integration/compute_cli/test_doctor.py",
    r"compute yield": "tests/e2e/test_yield.py",
}


def pages() -> list[Path]:
    """Whatever a reader may copy from."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "AGENTS.md")]
    for pattern in (
        "docs/*.md",
        "deploy/**/*.md",
        "services/*/README.md",
        "libs/*/README.md",
        "examples/*.md",
    ):
        found += sorted(ROOT.glob(pattern))
    return [page for page in found if page.exists()]


def blocks() -> list[tuple[str, str]]:
    """(page, block) of everything fenced as a shell's, pages in order."""
    return [
        (str(page.relative_to(ROOT)), text)
        for page in pages()
        for _, text in _BLOCK.findall(page.read_text())
    ]


def commands(block: str) -> list[str]:
    """Its commands, continued lines joined, comments off."""
    joined = block.replace("\\\n", " ")
    lines = [re.sub(r"\s+#.*$", "", line) for line in specification.logical_lines(joined)]
    return [line for line in lines if line and not line.startswith("#")]


def test_every_command_is_run_by_some_test() -> None:
    """What is not run below names the test that does, and that exists."""
    for page, block in blocks():
        for command in commands(block):
            if runs_here(command):
                continue
            plain = command.replace(".venv/bin/", "")
            named = [test for pattern, test in ELSEWHERE.items() if re.fullmatch(f"{pattern}.*", plain)]
            assert named, f"{page}: no test runs `{command}`"
            assert (ROOT / named[0]).exists(), named[0]


def runs_here(command: str) -> bool:
    return bool(_RUN_HERE.match(command)) and not NOT_LIVE.match(command.removeprefix(".venv/bin/"))


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in pages()])
def test_the_commands_of_a_page_work_as_printed(
    page: str, suite: RunningSuite, smollm2: dict[str, object]
) -> None:
    """Block by block, in the order of the page, against the running suite."""
    here = [block for named, block in blocks() if named == page and all(map(runs_here, commands(block)))]
    if not any(commands(block) for block in here):
        return
    for block in here:
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", as_run_here(block, suite)],
            env=suite.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{page}\n{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def as_run_here(block: str, suite: RunningSuite) -> str:
    """The block with this suite's ports, a refusal of curl's a failure, and what runs on ended."""
    for port, service in PORTS.items():
        block = block.replace(f"localhost:{port}", suite.url(service).removeprefix("http://"))
    block = block.replace("nats://127.0.0.1:4222", suite.nats_url)
    block = block.replace("<work_id>", "$WORK_ID")
    return "\n".join(
        [
            "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT",
            _CURL,
            f'compute() {{ "{Path(sys.executable).parent}/compute" "$@"; }}',
            block,
        ]
    )
