"""TLS of REST, both sides."""

import ssl
from collections.abc import Mapping
from pathlib import Path


def client_context(environ: Mapping[str, str]) -> ssl.SSLContext | bool:
    """What a client verifies servers by: COMPUTE_TLS_CA, a file of authorities (PEM), else the system's."""
    given = environ.get("COMPUTE_TLS_CA")
    return ssl.create_default_context(cafile=given) if given else True


def own_context(certificate: str | Path) -> ssl.SSLContext:
    """For asking a service of this host, by address: it must show exactly our certificate."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False  # 127.0.0.1 need not be in it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
