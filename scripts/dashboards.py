"""Writes deploy/grafana/dashboards/*.json: python -m scripts.dashboards."""

import json
from pathlib import Path

from scripts.grafana.gpus import gpus
from scripts.grafana.overview import overview
from scripts.grafana.queue import queue

FOLDER = Path(__file__).resolve().parent.parent / "deploy/grafana/dashboards"


def main() -> None:
    """Write each dashboard under its uid."""
    for name, text in rendered().items():
        (FOLDER / name).write_text(text)


def rendered() -> dict[str, str]:
    """File name → text."""
    made = (overview(), gpus(), queue())
    return {f"{board['uid']}.json": json.dumps(board, indent=1, ensure_ascii=False) + "\n" for board in made}


if __name__ == "__main__":
    main()
