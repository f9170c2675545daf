"""What a host says of its memory as a whole."""

from compute_common.enums import MemoryLevel
from compute_common.ids import Identifier
from compute_common.schemas.base import Wire
from compute_common.times import UtcTime


class NodeMemoryLevel(Wire):
    """`compute.gpu.level.v1.<node_id>`: said at every change and every few seconds, heard by the detector."""

    node_id: Identifier
    level: MemoryLevel
    timestamp: UtcTime
    v: int = 1
