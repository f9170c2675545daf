#!/usr/bin/env bash
# Asks the advisory database (PyPI's, over the network) about everything the locks pin: make audit.
set -euo pipefail
cd "$(dirname "$0")/.."
for lock in requirements.lock requirements-dev.lock requirements-engine.lock; do
  printf '\033[2maudit:\033[0m %s\n' "$lock" >&2
  .venv/bin/uv tool run -q pip-audit==2.10.1 --disable-pip --require-hashes --progress-spinner off -r "$lock"
done
