"""Which assignments this node runs: its own, each attempt once, never one of a leader that was replaced."""

from collections import OrderedDict

REMEMBERED = 20_000


class Admission:
    """`epoch` counts leaders, `attempt` counts assignments of one item; both only grow."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._epoch = 0
        self._attempts: OrderedDict[str, int] = OrderedDict()

    def admit(self, node_id: str, work_id: str, attempt: int, epoch: int) -> bool:
        """Whether to run it; remembers it when so."""
        if node_id != self._node_id or epoch < self._epoch:
            return False
        if attempt <= self._attempts.get(work_id, 0):
            return False
        self._epoch = epoch
        self._attempts[work_id] = attempt
        self._attempts.move_to_end(work_id)
        if len(self._attempts) > REMEMBERED:
            self._attempts.popitem(last=False)
        return True

    def is_doubted(self, node_id: str, work_id: str, attempt: int, epoch: int) -> bool:
        """Whether only its epoch stands against it: of an older leader, or a forged one came before."""
        new = node_id == self._node_id and attempt > self._attempts.get(work_id, 0)
        return new and epoch < self._epoch

    def believe(self, epoch: int) -> None:
        """The queue says that this is its leader's."""
        self._epoch = epoch

    def forget_epoch(self) -> None:
        """After a reconnect the queue may be another one, with younger leaders."""
        self._epoch = 0
