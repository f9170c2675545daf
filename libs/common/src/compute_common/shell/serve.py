"""`python -m compute_common.shell.serve PACKAGE --host … --port …`: one service, as it should be served."""

import argparse
import sys
from collections.abc import Sequence

import uvicorn
from pydantic import ValidationError

from compute_common.access.listening import REFUSED, refusal_to_listen
from compute_common.shell.connections import limits
from compute_common.shell.rest_settings import RestSettings
from compute_common.wire_json import validation_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; 78 and one line when it may not listen there."""
    asked = _arguments(argv)
    try:
        settings = RestSettings()
    except ValidationError as error:
        wrong = validation_errors(error)[0]
        return _refused(f"{wrong['field'] or 'settings'}: {wrong['message']}")
    keys = settings.key_ring().required
    if reason := refusal_to_listen(asked.host, keys=keys, allowed=settings.allow_no_key):
        return _refused(reason)
    for path in (settings.tls_cert, settings.tls_key):
        if path is not None and not path.is_file():
            return _refused(f"{path} is no file: COMPUTE_TLS_CERT and COMPUTE_TLS_KEY name PEM files")
    uvicorn.run(
        f"{asked.package}.app:app",
        host=asked.host,
        port=asked.port,
        access_log=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        **limits(),
    )
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compute_common.shell.serve")
    parser.add_argument("package")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args(argv)


def _refused(reason: str) -> int:
    print(f"compute: {reason}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
