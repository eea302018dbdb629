"""Become another program, tied to its supervisor's life and never root.

`python tether.py SUPERVISOR_PID SIGNAL PATH PROGRAM ARGUMENT...` replaces itself by PROGRAM. On Linux the kernel sends
SIGNAL when the supervisor dies, by whatever means. PostgreSQL refuses to run as root, so root becomes `nobody`; only
when PROGRAM or PATH lies where `nobody` may not go (a home folder) does it keep the capability to pass through
folders. Run by path and with no packages imported, so that it costs 10 ms.
"""

import ctypes
import os
import pwd
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 1, 8, 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522
USER = "nobody"


def main(supervisor: int, death_signal: int, path: str, command: list[str]) -> None:
    if os.geteuid() == 0:
        become_nobody(may_enter=[path, command[0]])
    if sys.platform == "linux":
        # After the change of user, which clears it.
        _linux("prctl", PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != supervisor:
            sys.exit("the supervisor died before its server started")
    os.execv(command[0], command)  # noqa: S606 - replacing this process is the purpose


def become_nobody(may_enter: list[str]) -> None:
    user = pwd.getpwnam(USER)
    if sys.platform == "linux":
        _linux("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if sys.platform == "linux" and not all(os.access(path, os.X_OK) for path in may_enter):
        keep_capability(CAP_DAC_READ_SEARCH if _holds(CAP_DAC_READ_SEARCH) else CAP_DAC_OVERRIDE)


def keep_capability(number: int) -> None:
    """The capability survives the exec; every other one is gone."""
    mask = 1 << number
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    _linux("capset", header, struct.pack("6I", mask, mask, mask, 0, 0, 0))
    _linux("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)


def _holds(number: int) -> bool:
    permitted = ctypes.create_string_buffer(24)
    _linux("capget", struct.pack("Ii", CAPABILITY_VERSION_3, 0), permitted)
    return bool(struct.unpack("6I", permitted.raw)[1] & 1 << number)


def _linux(call: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
