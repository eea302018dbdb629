"""What goes on beside the load: one thing done again and again, until it is stopped."""

import threading
from collections.abc import Callable


class Beside:
    """A thread of its own. `do` is called every so many seconds, and never again after `stop`."""

    def __init__(self, do: Callable[[], None], every_s: float) -> None:
        self._do, self._every_s = do, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._do()
