"""The service shell: what every one of the six services is around its core."""

from compute_common.shell.app import create_app
from compute_common.shell.service import Service, ServiceSettings

__all__ = ["Service", "ServiceSettings", "create_app"]
