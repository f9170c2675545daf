#!/usr/bin/env bash
# Everything that needs no running part: format, lint, import rules, types, locks and licences, secrets.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { printf '\033[2mcheck:\033[0m %s\n' "$*" >&2; "$@"; }
step $bin/ruff format --check -q .
step $bin/ruff check -q .
step $bin/lint-imports --no-cache
step $bin/mypy libs services tests scripts examples
step $bin/python scripts/supply_chain.py
step $bin/python scripts/secret_scan.py
