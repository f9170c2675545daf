#!/usr/bin/env bash
# Writes the hashed locks anew from the members' pyproject files (extras too: what a setting can ask for is installed)
# and the requirements-*.in files.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
members=$(sed -n 's/^name = "\(.*\)"/\1/p' libs/*/pyproject.toml services/*/pyproject.toml)
skip=(); for member in $members; do skip+=(--no-emit-package "$member"); done
compile() { "$uv" pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" "$@"; }

compile "${skip[@]}" --all-extras libs/*/pyproject.toml services/*/pyproject.toml requirements-build.in -o requirements.lock
compile "${skip[@]}" --all-extras -c requirements.lock libs/*/pyproject.toml services/*/pyproject.toml \
  requirements-build.in requirements-dev.in -o requirements-dev.lock
compile --no-deps requirements-engine.in -o requirements-engine.lock
compile --no-deps requirements-bootstrap.in -o requirements-bootstrap.lock
compile requirements-rivals.in -o requirements-rivals.lock
compile ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} --override requirements-vllm-overrides.txt requirements-vllm.in \
  -o requirements-vllm.lock
