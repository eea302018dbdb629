"""Become another program that is told to stop when its supervisor dies, by whatever means (Linux).

`python leash.py SUPERVISOR_PID PROGRAM ARGUMENT...`, run by path and with no packages imported, so that it costs 10 ms.
The embedded servers have a leash of their own, `ops/embedded/tether.py`, which also changes the user.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to(supervisor: int) -> None:
    """This process gets SIGTERM when the thread that started it ends. Exits when its supervisor is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != supervisor:
            sys.exit("the supervisor died before its child started")


def main(supervisor: int, command: list[str]) -> None:
    tie_to(supervisor)
    os.execv(command[0], command)  # noqa: S606 - replacing this process is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
