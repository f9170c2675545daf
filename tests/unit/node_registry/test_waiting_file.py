"""The file of rows that wait."""

from pathlib import Path

import pytest

from node_registry.waiting_file import WaitingFile


def test_what_is_kept_is_read_back_and_replaced_whole(tmp_path: Path) -> None:
    file = WaitingFile(tmp_path / "made" / "waiting.jsonl")
    assert file.read() == []
    file.replace([("nodes", {"node_id": "a", "record": {"x": "é\n"}}), ("drains", {"node_id": "b"})])
    assert file.read() == [("nodes", {"node_id": "a", "record": {"x": "é\n"}}), ("drains", {"node_id": "b"})]
    file.replace([("nodes", {"node_id": "c"})])
    assert file.read() == [("nodes", {"node_id": "c"})]
    file.replace([])
    file.replace([])
    assert list(file.path.parent.iterdir()) == []


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "waiting.jsonl"
    path.write_text('nonsense\n["t", {"node_id": "a"}]\n[1, {}]\n["t", {"node_id": 7}]\n["t", {"node_')
    assert WaitingFile(path).read() == [("t", {"node_id": "a"})]
    path.write_bytes(b"\xff\xfe")
    assert WaitingFile(path).read() == []


def test_a_folder_that_cannot_be_written_raises_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        WaitingFile(tmp_path / "file" / "waiting.jsonl").replace([("t", {"node_id": "a"})])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
