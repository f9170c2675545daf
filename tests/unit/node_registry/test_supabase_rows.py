"""What goes into a row, how rows travel, and what refusals mean to an operator."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from node_registry.supabase_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    StoredRow,
    batches,
    drain_row,
    node_row,
    record_of,
    refusal,
    removal_of,
)
from node_registry.supabase_store import Project
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document


def test_a_node_is_read_back_as_it_was_written() -> None:
    table = NodeTable()
    table.announce(document("n1", cpu={"cores": 16}, labels={"rack": "7"}), at(0))
    table.heartbeat(beat("n1"), at(1))
    row = node_row("n1", table.row("n1"), at(2))
    assert (row.columns["tier"], row.columns["status"], row.columns["deleted_at"]) == (
        "CPU_ONLY",
        "online",
        None,
    )
    record = record_of(json.loads(json.dumps(row.columns)), at(3))
    assert record is not None
    stored = table.record("n1")
    assert stored is not None
    assert (record.document, record.registered_at) == (stored.document, stored.registered_at)


def test_what_is_gone_is_a_tombstone_with_the_same_columns() -> None:
    table = NodeTable()
    table.announce(document("n1"), at(0))
    alive, gone = node_row("n1", table.row("n1"), at(1)), node_row("n1", None, at(1))
    assert gone.columns["record"] is None
    assert gone.columns["deleted_at"] == "2026-11-23T12:00:01Z"
    assert set(alive.columns) == set(gone.columns), "a batch has one list of columns"
    earlier = node_row("n1", None, at(9), removed=at(1))
    assert earlier.columns["deleted_at"] == gone.columns["deleted_at"]
    assert removal_of(alive.columns, at(9)) is None
    assert removal_of(gone.columns, at(9)) == at(1)
    assert removal_of({"deleted_at": "nonsense"}, at(9)) is None
    assert drain_row("n1", True, at(1)).columns["deleted_at"] is None
    assert drain_row("n1", False, at(1)).columns["deleted_at"] == "2026-11-23T12:00:01Z"


@pytest.mark.parametrize(
    "record", [None, "text", [], {}, {"document": {"node_id": "other", "hostname": "h"}}]
)
def test_a_row_somebody_else_wrote_is_not_believed(record: Any) -> None:
    assert record_of({"node_id": "n1", "record": record}, at(0)) is None
    whole = node_row("n1", _table_with("n1").row("n1"), at(0)).columns
    assert record_of({**whole, "node_id": "n2"}, at(0)) is None, "the document is of another node"


@given(st.lists(st.integers(1, BATCH_BYTES), max_size=700))
def test_batches_keep_order_and_bounds(sizes: list[int]) -> None:
    rows = [StoredRow(str(number), {}, size) for number, size in enumerate(sizes)]
    made = list(batches(iter(rows)))
    assert [row for batch in made for row in batch] == rows
    for batch in made:
        assert 1 <= len(batch) <= BATCH_ROWS
        assert sum(row.size for row in batch[:-1]) < BATCH_BYTES


def test_a_row_is_made_only_when_its_batch_takes_it() -> None:
    made: list[int] = []

    def rows() -> Any:
        for number in range(BATCH_ROWS + 1):
            made.append(number)
            yield StoredRow(str(number), {}, 1)

    next(batches(rows()))
    assert len(made) == BATCH_ROWS


@pytest.mark.parametrize(
    ("code", "message", "word", "row_at_fault"),
    [
        ("PGRST301", "JWSError", "SUPABASE_SERVICE_KEY", False),
        (None, "Invalid API key", "SUPABASE_SERVICE_KEY", False),
        (None, None, "without a code", False),
        ("42501", "permission denied", "service_role", False),
        ("42P01", "no relation", "deploy/supabase/migrations", False),
        ("PGRST205", "not in the schema cache", "deploy/supabase/migrations", False),
        ("404", "Not Found", "SUPABASE_URL", False),
        ("503", "", "503", False),
        ("57014", "statement timeout", "57014", False),
        ("22P05", "unsupported Unicode escape", "22P05", True),
        ("23514", "check constraint", "23514", True),
        ("413", "", "413", True),
        ("Bearer x.y.z", "", "of its own", False),
    ],
)
def test_a_refusal_says_what_to_do(
    code: str | None, message: str | None, word: str, row_at_fault: bool
) -> None:
    error = refusal(code, message)
    assert word in error.reason
    assert error.row_at_fault is row_at_fault


def test_the_project_is_named_without_what_its_url_may_hide() -> None:
    assert Project("https://user:secret@abc.supabase.co/x?k=secret", SecretStr("k")).host == "abc.supabase.co"
    assert Project("http://127.0.0.1:54321", SecretStr("k")).host == "127.0.0.1:54321"
    assert Project("https://[", SecretStr("k")).host == "?"
    assert Project("http://h:99999", SecretStr("k")).host == "?"


def _table_with(node_id: str) -> NodeTable:
    table = NodeTable()
    table.announce(document(node_id), at(0))
    return table
