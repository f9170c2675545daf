"""Real programs with another clock and a slower disk: a library they preload, steered by a file.

    bent = Bent(folder)                               # compiles once; `usable` is False without a compiler
    run(argv, env=os.environ | bent.environment("host 1"))
    bent.bend("host 1", shift_seconds=-20)            # from now on, for every program of that name

What is linked statically (nats-server) keeps its own. Files' times stay the kernel's.
"""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "bent.c"


class Bent:
    """`folder` holds the library and a file for each name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._library = folder / "libbent.so"
        compiler = shutil.which("gcc") or shutil.which("cc")
        self.usable = compiler is not None
        if compiler is not None:
            flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
            argv = [compiler, *flags, "-o", str(self._library), str(SOURCE), "-ldl"]
            subprocess.run(argv, check=True, timeout=60)

    def environment(self, name: str) -> dict[str, str]:
        """What a program's environment needs, to be bent under that name."""
        if not self.usable:
            return {}
        self.bend(name)
        return {"LD_PRELOAD": str(self._library), "BENT_FILE": str(self._file(name))}

    def bend(self, name: str, shift_seconds: float = 0.0, sync_seconds: float = 0.0) -> None:
        """Its clock off by `shift_seconds`, its fsync longer by `sync_seconds`; neither: straight."""
        values = struct.pack("qq", int(shift_seconds * 1e9), int(sync_seconds * 1e9))
        with self._file(name).open("r+b" if self._file(name).exists() else "wb") as file:
            file.write(values)

    def _file(self, name: str) -> Path:
        return self._folder / name.replace("/", "-").replace(" ", "-")
