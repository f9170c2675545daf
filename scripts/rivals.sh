#!/usr/bin/env bash
# Makes .rivals: a venv with the queues that tests/perf/test_queue_rivals.py measures beside ours, and a redis-server
# unpacked beside it where none is on PATH (Debian, Ubuntu; nothing is installed into the system).
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\033[2mcompute:\033[0m %s\n' "$*" >&2; }
uv=.venv/bin/uv
unset PYTHONDONTWRITEBYTECODE
say "making .rivals (Celery, taskiq with NATS; 40 MB)"
"$uv" venv -q --clear -p .venv/bin/python .rivals
"$uv" pip install -q -p .rivals/bin/python --require-hashes --compile-bytecode -r requirements-rivals.lock
if ! command -v redis-server >/dev/null; then
  if command -v apt-get >/dev/null; then
    mkdir -p .rivals/redis
    (cd .rivals/redis && apt-get download -qq redis-server redis-tools libjemalloc2 liblzf1 2>/dev/null \
      && for package in *.deb; do dpkg -x "$package" . && rm "$package"; done) \
      || say "no redis-server could be had: install one, or Celery is left out"
  else
    say "no redis-server on PATH: install one, or Celery is left out"
  fi
fi
touch .rivals/.ready
say "ready: make bench-rivals"
