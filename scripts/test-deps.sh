#!/usr/bin/env bash
# Installs the system parts some tests use (Debian or Ubuntu): PostgreSQL, Prometheus, Chromium, Docker with Compose.
# Opt-in: `make test` runs without them and says what it skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\033[2mtest-deps:\033[0m %s\n' "$*" >&2; }
sudo=(); [[ $(id -u) -eq 0 ]] || sudo=(sudo)
command -v apt-get >/dev/null || { say "only Debian and Ubuntu are known to this script"; exit 1; }

wanted=(python3-venv libgomp1 iproute2 openssl postgresql prometheus chromium docker.io docker-compose)
missing=()
for package in "${wanted[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  # RUNLEVEL=1: the tests start their own servers, none is to run beside them.
  "${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! docker info >/dev/null 2>&1 || ! docker image inspect python:3.11-slim-bookworm >/dev/null 2>&1; then
  if [[ -x ../shared/tools/offline-docker ]]; then  # where no container registry is reachable
    ../shared/tools/offline-docker
  else
    say "no Docker Engine answers: start it, or the Compose tests will be skipped"
  fi
fi
say "ready"
