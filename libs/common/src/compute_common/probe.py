"""Container health check without curl: `python -m compute_common.probe` exits 0 when /readyz answers 200.

With `PROBE_FILE`, for a program that serves nothing, when it wrote that file within the last 15 seconds.
Imports the standard library only: it runs every few seconds in every container.
"""

import os
import sys
import time
import urllib.error
import urllib.request

from compute_common.access.tls import own_context

STALE_SECONDS = 15


def main() -> int:
    """Probe the service this container runs, on the port it listens on (`PROBE_URL` overrides)."""
    if file := os.environ.get("PROBE_FILE"):
        return _written_lately(file)
    certificate = os.environ.get("COMPUTE_TLS_CERT")
    scheme = "https" if certificate else "http"
    url = os.environ.get("PROBE_URL") or f"{scheme}://127.0.0.1:{os.environ.get('PORT', '8000')}/readyz"
    try:
        trust = own_context(certificate) if certificate else None
        with urllib.request.urlopen(url, timeout=3, context=trust) as answer:  # noqa: S310 - our own address
            return 0 if answer.status == 200 else 1
    except (OSError, urllib.error.URLError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


def _written_lately(file: str) -> int:
    try:
        age = time.time() - os.stat(file).st_mtime  # noqa: PTH116 - one import less
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if age < STALE_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
