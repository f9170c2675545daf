"""A throw-away PostgreSQL cluster: initdb under a temporary folder, one Unix socket, no TCP, no fsync."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

NAME = "postgres"
# What a Supabase project has before any migration; but service_role may not bypass row-level security here,
# so that its policies are what lets it in.
ROLES = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
"""


def binaries() -> Path | None:
    """The folder of initdb and postgres, which Debian keeps off PATH; None where there is none."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class PostgresCluster:
    """PostgreSQL refuses to run as root: there it runs as the user postgres."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="compute-postgres-"))
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._home, account.pw_uid, account.pw_gid)

    def start(self) -> None:
        data = self._home / "data"
        self._run(
            "initdb", "-D", str(data), "-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={self._home} -c fsync=off"
        self._run("pg_ctl", "-D", str(data), "-w", "-l", str(self._home / "log"), "-o", options, "start")
        self.execute(ROLES)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._home / "data"), "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._home)

    def dsn(self, role: str) -> str:
        return f"host={self._home} dbname={NAME} user={role}"

    def execute(self, text: str) -> None:
        """Run SQL as the owner of everything."""
        with psycopg.connect(self.dsn(NAME), autocommit=True) as connection:
            connection.execute(text.encode())

    def _run(self, program: str, *arguments: str) -> None:
        # Not a pipe: the server inherits what its starter has, and a pipe would stay open with it.
        with (self._home / f"{program}.out").open("wb") as output:
            done = subprocess.run(
                [str(self._bin / program), *arguments],
                user=self._user,
                cwd=self._home,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, (self._home / f"{program}.out").read_text()
