"""`uvicorn node_registry.app:app`."""

from compute_common.shell import create_app
from node_registry.service import NodeRegistry
from node_registry.settings import Settings

app = create_app(NodeRegistry(Settings()))
