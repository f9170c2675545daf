"""The node program and worker SDK: `Worker`, `Job`, `WorkError`."""

from compute_node.job import Job, WorkError
from compute_node.worker import Worker

__all__ = ["Job", "WorkError", "Worker"]
