"""The readers on folders and files made for them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compute_common.checkup import gpu_reader, place_reader
from compute_common.checkup.facts import Reach
from compute_common.checkup.program_log import MAX_BYTES, read_log
from compute_common.problems import Problem
from compute_common.schemas.checkup import LogAsk


def test_models_are_counted_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert not place_reader.read_models(tmp_path / "none").exists
    (tmp_path / "org" / "big").mkdir(parents=True)
    (tmp_path / "org" / "big" / "config.json").write_text("{}")
    (tmp_path / "small.GGUF").write_bytes(b"GGUF")
    assert place_reader.read_models(tmp_path).models == 2
    broken = tmp_path / "gone.gguf"
    broken.symlink_to(tmp_path / "nowhere")
    assert place_reader.read_models(tmp_path).unreadable == str(broken)


def test_the_form_of_a_token() -> None:
    def formed(token: str) -> bool | None:
        return place_reader.token_well_formed({"HF_TOKEN": token})

    assert formed("") is None
    assert formed("hf_" + "a" * 34) is True
    assert formed("hf_" + "a" * 34 + "\n") is False
    assert formed("sk-" + "a" * 34) is False


def test_secrets_with_their_modes(tmp_path: Path) -> None:
    for name, mode in (("api-keys.json", 0o600), ("nats-compute.secret", 0o644)):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(mode)
    found = {Path(each.path).name: each.mode for each in place_reader.read_secrets(tmp_path)}
    assert found == {"api-keys.json": 0o600, "nats-compute.secret": 0o644}


def test_wsl_and_its_cap(tmp_path: Path) -> None:
    proc, users = tmp_path / "proc", tmp_path / "Users"
    (users / "me").mkdir(parents=True)
    proc.mkdir()
    (proc / "version").write_text("Linux version 6.6 (microsoft-standard-WSL2)")
    (proc / "meminfo").write_text("MemTotal:       16384000 kB\n")
    seen = place_reader.read_wsl(proc, users)
    assert seen is not None
    assert (seen.memory_mb, seen.capped) == (16_000, False)
    (users / "me" / ".wslconfig").write_text("[wsl2]\r\nmemory = 48GB\r\n")
    seen = place_reader.read_wsl(proc, users)
    assert seen is not None
    assert seen.capped
    (proc / "version").write_text("Linux version 6.6")
    assert place_reader.read_wsl(proc, users) is None


def test_cards_without_a_driver(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate(
        (("0x10de", "0x030000"), ("0x10de", "0x040300"), ("0x1002", "0x038000"))
    ):
        device = tmp_path / "bus/pci/devices" / f"0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\n"
    )
    gpu = gpu_reader.read_gpu(proc=tmp_path, sys=tmp_path, dev=tmp_path)
    assert (gpu.nvidia_cards, gpu.amd_cards, gpu.kfd) == (1, 1, Reach.ABSENT)
    assert gpu.kernel_version == "580.95.05"


def test_a_log_from_its_end_and_on(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("one\ntwo\nthr")
    found = read_log(tmp_path, "box", LogAsk(program="nats", lines=1))
    assert found.lines == ["two"]
    with log.open("a") as file:
        file.write("ee\n")
    after = read_log(tmp_path, "box", LogAsk(program="nats", offset=found.next_offset))
    assert after.lines == ["three"]
    log.write_text("anew\n")
    assert read_log(tmp_path, "box", LogAsk(program="nats", offset=after.next_offset)).lines == ["anew"]


def test_a_long_log_is_read_in_pieces_none_of_it_twice(tmp_path: Path) -> None:
    lines = [f"{number} " + "x" * 500 for number in range(1500)]
    (tmp_path / "nats.log").write_text("\n".join(lines) + "\n")
    read: list[str] = []
    offset = 0
    for _piece in range(4):
        found = read_log(tmp_path, "box", LogAsk(program="nats", offset=offset))
        assert sum(map(len, found.lines)) <= MAX_BYTES
        read, offset = read + found.lines, found.next_offset
    assert read == lines


def test_a_log_tells_no_login(tmp_path: Path) -> None:
    (tmp_path / "nats.log").write_text(
        f"at nats://me:pass@host:4222, hf_{'a' * 34}, Authorization: Bearer abc.def\n"
    )
    (line,) = read_log(tmp_path, "box", LogAsk(program="nats")).lines
    assert line == "at nats://***@host:4222, ***, Authorization: Bearer ***"


def test_only_log_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "logs" / "pipe.log")
    for name in ("link", "pipe", "none"):
        with pytest.raises(Problem) as refused:
            read_log(tmp_path / "logs", "box", LogAsk(program=name))
        assert refused.value.status == 404


@given(st.text())
def test_no_name_leaves_the_folder(name: str) -> None:
    try:
        ask = LogAsk(program=name)
    except ValidationError:
        return
    assert not set(ask.program) & set("/\\.\n\0 ")
