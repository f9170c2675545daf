"""What is said of a cluster of several versions."""

import pytest

from node_registry.status.versions import mixed


@pytest.mark.parametrize(
    ("versions", "own", "words"),
    [
        ({}, "0.1.0", None),
        ({"0.1.0": 3}, "0.1.0", None),
        ({"0.1.0": 3}, "0.2.0", "neighbours work together"),
        ({"0.2.0": 3, "0.1.0": 1}, "0.2.0", "0.2.0 on 3 nodes, 0.1.0 on 1 nodes, this registry 0.2.0"),
        ({"0.1.4": 1}, "0.1.0", "neighbours work together"),
        ({"0.1.0": 1, "0.3.0": 1}, "0.2.0", "upgrade the oldest first"),
        ({"0.9.0": 1, "0.10.0": 1}, "0.10.0", "neighbours work together"),
        ({"1.0.0": 1}, "0.9.0", "not supported"),
    ],
)
def test_mixed(versions: dict[str, int], own: str, words: str | None) -> None:
    said = mixed(versions, own)
    assert (said is None) if words is None else (words in (said or ""))
