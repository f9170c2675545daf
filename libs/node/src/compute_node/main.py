"""`python -m compute_node`: join this host's work to the cluster at `NATS_URL`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from compute_common.shell.logging import configure_logging
from compute_node.program import NodeProgram
from compute_node.settings import NodeSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; 0 then, 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(prog="compute_node", description="Executes work of the cluster here.")
    parser.add_argument(
        "--join",
        action="store_true",
        help="announce this host and keep it alive (no resource detector runs here); COMPUTE_NODE_ANNOUNCE=1",
    )
    options = parser.parse_args(arguments)
    try:
        settings = NodeSettings()
        settings.compute_node_announce = settings.compute_node_announce or options.join
        configure_logging("compute-node", settings.log_level)
        program = NodeProgram(settings)
    except (ValidationError, ValueError) as error:
        sys.stderr.write(f"compute_node: {error}\n")
        return 2
    asyncio.run(program.run())
    return 0
