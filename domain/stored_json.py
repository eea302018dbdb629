"""JSON on its way into a column: bounded, so that nobody who stores many at once is held up by one of them."""

#: In bytes. A recorder writes up to 1,000 outcomes in one statement, and PostgreSQL takes 1 GiB in one message.
LARGEST = 256 * 1024


class TooLarge(ValueError):
    """More than is stored of anything. The message names what, and both sizes, and nothing of the content."""


def stored_json(encoded: bytes, what: str) -> str:
    """The text of this JSON. Raises TooLarge."""
    if len(encoded) > LARGEST:
        raise TooLarge(f"{what} has {len(encoded):,} bytes, and may have {LARGEST:,}")
    return encoded.decode()
