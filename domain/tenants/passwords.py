"""Passwords as they are stored: Argon2id (RFC 9106), never the password. Where there is no account it takes as long.

Each call takes 64 MiB and some tens of milliseconds of a processor: whoever lets strangers ask bounds how many at once.
"""

import base64
import os
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from domain.errors import TooManyPasswords

#: Three passes over 64 MiB in four lanes: the second of the choices that RFC 9106, section 4, recommends.
HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
#: In characters; nothing is asked of them otherwise (NIST SP 800-63B, 3.1.1.2).
SHORTEST, LONGEST = 8, 100


def hash_password(password: str) -> str:
    """The password as a PHC string, `$argon2id$...`."""
    return HASHER.hash(_normal(password))


def is_password(hashed: str | None, password: str) -> bool:
    """Whether this is the password. None = there is no account: False, after the time that looking takes.

    Raises TooManyPasswords when nobody can tell, for want of memory.
    """
    try:
        return HASHER.verify(hashed or _of_nobody(), _normal(password))
    except (VerifyMismatchError, InvalidHashError):
        return False
    except VerificationError as error:
        raise TooManyPasswords from error


def is_outdated(hashed: str) -> bool:
    """Whether it was made with other parameters than those of today: the next log-in makes it anew."""
    return HASHER.check_needs_rehash(hashed)


def _normal(password: str) -> bytes:
    """One character may be written in several ways, and keyboards differ (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode()


def _of_nobody() -> str:
    """A hash as those of today that no password has, but with a chance of 2^-256."""
    salt, tag = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (HASHER.salt_len, HASHER.hash_len))
    return f"$argon2id$v=19$m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}${salt}${tag}"
