"""A primary and the standby its commits wait for: what was acknowledged is on both, and the standby can take over.

The primary is the stack's PostgreSQL, whichever server that is. The standby hears it through a wire of its own, so that
it can be made to miss what is committed, and is made anew when it is of no use any more.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import psycopg

from ops.chaos.wires import HOST, Wires
from ops.dev.ports import Ports
from ops.embedded.postgresql import DATABASE, USER, Postgresql, end_leftovers, program
from ops.embedded.server import give_to_servers, make_owned
from ops.stack import Stack

#: The link over which the standby hears the primary.
LINK = "standby-postgresql"
IN_STEP_WITHIN_S = 30.0
_FIRST_PORT = 18_600

_IN_STEP = """
    SELECT EXISTS (SELECT FROM pg_stat_replication
                    WHERE sync_state = 'sync' AND flush_lsn >= CAST(%(lsn)s AS pg_lsn))
"""


class NotInStep(Exception):
    """The standby does not follow the primary."""


class Standby(Postgresql):
    """A copy of the server on port `primary`, which it follows by the port `link`. Promoted, it is like any other."""

    name = "standby"
    primary: int
    link: int

    def is_ready(self) -> bool:
        try:
            lines = (self.folder / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return bool(lines) and lines[0] == str(self.pid) and lines[-1] in {"ready", "standby"}

    def _create(self) -> None:
        make_owned(self.folder)
        words = ["--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        self.run([program("pg_basebackup"), *self._data, "-d", self._url_at(self.primary), *words])
        with (self.folder / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{self._url_at(self.link)}'\n")
        (self.folder / "standby.signal").touch()
        give_to_servers(self.folder / "standby.signal")

    def _url_at(self, port: int) -> str:
        return f"postgresql://{USER}:{self.password}@{HOST}:{port}/{DATABASE}"


class Pair:
    """A context: leaving it ends every server that it started or that was the primary once."""

    def __init__(self, stack: Stack, wires: Wires) -> None:
        self._stack, self._wires = stack, wires
        self._link = wires.add(LINK, stack.postgresql.port)
        self._ports = Ports(HOST)
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="standby")
        self._made: list[Postgresql] = []
        self.standby: Standby

    def __enter__(self) -> Self:
        try:
            self.renew()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def primary(self) -> Postgresql:
        return self._stack.postgresql

    def renew(self) -> None:
        """A standby made from the primary is in step with it, and commits wait for it from now on."""
        self.take_out()
        for setting in ("wal_keep_size = '1GB'", "wal_retrieve_retry_interval = '200ms'"):  # the copy has them too
            self.ask_primary(f"ALTER SYSTEM SET {setting}")
        folder = self._stack.data_dir / f"standby-{len(self._made)}"
        port = self._ports.first_free(_FIRST_PORT)
        self.standby = Standby(folder, port, self.primary.password, self._spawner)
        self.standby.primary, self.standby.link = self.primary.port, self._link
        self._made.append(self.standby)
        self.standby.start()
        self.ask_primary("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask_primary("SELECT pg_reload_conf()")
        self.wait_until_in_step()
        self.ask_primary("CHECKPOINT")  # the checkpointer tells the sessions, when it comes to read the settings
        self.wait_until_in_step()

    def take_out(self) -> None:
        """No commit waits any more, and whoever is not the primary, which must not take over from now on, is gone."""
        self.ask_primary("ALTER SYSTEM RESET synchronous_standby_names")
        self.ask_primary("SELECT pg_reload_conf()")
        for server in self._made:
            if server is not self.primary:
                end(server)

    def lose_primary(self) -> Postgresql:
        """The primary is dead, every session of it too, and the standby stands in its place. Answers who was."""
        lost = self.primary
        end(lost)
        self._made.append(lost)
        self._stack.postgresql = self.standby
        return lost

    def promote(self) -> None:
        """The new primary takes writes when this returns. No commit waits for anybody."""
        self.ask_primary("SELECT pg_promote(true, 60)")

    def wait_until_in_step(self, within_s: float = IN_STEP_WITHIN_S) -> None:
        """The standby has all that was committed when this was called. Raises NotInStep."""
        lsn, deadline = self.ask_primary("SELECT pg_current_wal_flush_lsn()"), time.monotonic() + within_s
        while not self.ask_primary(_IN_STEP, lsn=lsn):
            if time.monotonic() > deadline:
                raise NotInStep(f"the standby was not in step within {within_s:g} s")
            time.sleep(0.05)

    def ask_primary(self, query: str, **values: object) -> object:
        return self.ask(self.primary, query, **values)

    def ask(self, server: Postgresql, query: str, **values: object) -> object:
        """The first column of the first row, if there is any."""
        with psycopg.connect(
            server.url, autocommit=True, connect_timeout=5, application_name="longshore-chaos"
        ) as session:
            asked = session.execute(query.encode(), values)
            row = asked.fetchone() if asked.description else None
            return row[0] if row else None

    def _end(self) -> None:
        for server in [*self._made, self.primary]:
            end(server)
        self._spawner.shutdown()


def end(server: Postgresql) -> None:
    """kill -9, and no process of it is left: no session can commit or tell anybody anything from now on."""
    server.kill()
    end_leftovers(server.cluster_name)
