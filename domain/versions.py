"""Changes that their caller has tied to what he has seen: nobody overwrites what he does not know."""

from collections.abc import Collection

from domain.errors import VersionConflict


def check_version(resource: str, version: int, seen: Collection[int] | None) -> None:
    """Raises VersionConflict unless the row is still at a version that was seen; None = whichever it is.

    Whoever calls holds the row's lock, so that the answer still holds when he changes it.
    """
    if seen is not None and version not in seen:
        raise VersionConflict(resource=resource, version=version)
