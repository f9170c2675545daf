"""Finds what looks like a credential in tracked files: known forms, and random text given to a secret's name.

A line that is meant to hold one (a made-up value in a test) says `not-a-secret`.
"""

import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_BYTES = 2 << 20
ALLOWED = "not-a-secret"
KNOWN = {
    "private key": r"-----BEGIN ([A-Z]+ )*PRIVATE KEY( BLOCK)?-----\s*$",
    "NATS credentials": r"-----BEGIN (NATS USER JWT|USER NKEY SEED)-----\s*$",
    "NATS seed": r"\bS[UAON][A-Z2-7]{56}\b",
    "API key of ours": r"\bck_k-[0-9a-f]{16}_[A-Za-z0-9_-]{43}\b",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "GitHub token": r"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}\b",
    "OpenAI or Anthropic key": r"\bsk-(ant-|proj-)?[A-Za-z0-9_-]{32,}\b",
    "AWS key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "Google key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
}
_KNOWN = {name: re.compile(form) for name, form in KNOWN.items()}
_GIVEN = re.compile(
    r"""(?i)(password|passwd|secret|token|api[_-]?key|credential)\w*["']?\s*[:=]\s*["']?([A-Za-z0-9+/_=-]{20,})"""
)
RANDOM_BITS = 3.6  # per character; words and paths have less


def findings(text: str) -> Iterator[tuple[int, str]]:
    """(line, what it looks like)."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED in line:
            continue
        known = next((name for name, form in _KNOWN.items() if form.search(line)), None)
        if known:
            yield number, known
            continue
        given = _GIVEN.search(line)
        if given and looks_random(given[2]):
            yield number, f"a random text as {given[1].lower()}"


def looks_random(text: str) -> bool:
    """Letters and digits mixed, with the entropy of chance."""
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    counts = Counter(text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return mixed and bits >= RANDOM_BITS


def tracked() -> list[Path]:
    """Every file that git knows here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    return [ROOT / name for name in listed.decode().split("\0") if name]


def main() -> int:
    """1 and one line per finding, which never shows what was found."""
    found = 0
    for path in tracked():
        if not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_BYTES:
            continue
        for number, what in findings(path.read_text(errors="replace")):
            found += 1
            print(f"{path.relative_to(ROOT)}:{number}: {what}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
