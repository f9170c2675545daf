"""The systemd user unit that brings the suite up at boot, as text. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NAME = "compute.service"
_OURS = (
    "COMPUTE_", "NATS_", "NODE_", "RESOURCE_DETECTOR_", "GPU_", "VLLM_", "WORK_", "BENCHMARK_", "ENGINE_",
    "INSTANCE_", "DETECT_", "DOCKER_PROXY_", "LLAMA_", "HF_", "SUPABASE_", "TENSORZERO_", "OTEL_",
)  # fmt: skip
_ALSO = frozenset({"PATH", "LD_LIBRARY_PATH", "TZ", "LOG_LEVEL"})
_ELSEWHERE = frozenset({"COMPUTE_HOME"})  # in the unit itself
STOP_SECONDS = 20


def unit_text(argv: Sequence[str], home: Path, environment_file: Path) -> str:
    """The unit; ValueError for a word that no unit can hold. No secret is in it: those are in the file."""
    return f"""\
[Unit]
Description=compute: this machine's part of the private LLM cluster
Documentation=man:systemd.service(5)
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
WorkingDirectory={_path(home)}
Environment={_quoted("COMPUTE_HOME=" + str(home))}
EnvironmentFile=-{_path(environment_file)}
ExecStart={" ".join(_argument(word) for word in argv)}
KillMode=mixed
TimeoutStopSec={STOP_SECONDS}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=78

[Install]
WantedBy=default.target
"""


def environment_text(environ: Mapping[str, str]) -> str:
    """The suite's variables among `environ`, for EnvironmentFile; those that it cannot hold are left out."""
    return "".join(f"{name}={_value(text)}\n" for name, text in sorted(_settings(environ)))


def _settings(environ: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name, text in environ.items():
        ours = name.startswith(_OURS) or name in _ALSO
        if ours and name not in _ELSEWHERE and text.isprintable() and name.isidentifier():
            yield name, text


def _value(text: str) -> str:
    """In double quotes, where the backslash, the quote, the dollar and the backtick are marked."""
    for mark in '\\"$`':
        text = text.replace(mark, "\\" + mark)
    return f'"{text}"'


def _argument(word: str) -> str:
    """A word of a command line: the dollar would be a variable."""
    return _quoted(word).replace("$", "$$")


def _quoted(word: str) -> str:
    """In double quotes; `%` would begin a specifier."""
    return '"' + _plain(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _path(path: Path) -> str:
    """A path that stands alone on its line, where quotes would be part of it."""
    text = _plain(str(path))
    if not path.is_absolute() or text != text.strip() or text.endswith("\\"):
        raise ValueError(f"{path} cannot be written into a systemd unit")
    return text


def _plain(word: str) -> str:
    if not word.isprintable():
        raise ValueError("a systemd unit holds no line breaks or other control characters")
    return word.replace("%", "%%")
