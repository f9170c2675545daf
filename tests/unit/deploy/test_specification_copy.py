"""The copy of the specification that the tests read."""

from tests.support import specification


def test_it_is_the_specification_where_that_lies_beside_the_clone() -> None:
    copy = specification.PATH.read_text()
    assert len(specification.nats_commands()) == 3
    if specification.ORIGINAL.exists():
        assert copy == specification.ORIGINAL.read_text()
