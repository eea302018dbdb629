"""What exceptions and foreign programs say, as text that PostgreSQL can store."""

#: The end of a traceback says most, and a giant message helps nobody. In characters.
LONGEST = 4_000


def said_by(error: BaseException) -> str:
    """What it says of itself, or nothing: a foreign class may fail at that too."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # whatever it raises, there are no words
        return ""


def storable(text: str) -> str:
    """The end of it, with what cannot be stored left out or replaced.

    PostgreSQL's text refuses U+0000, UTF-8 a lone surrogate (undecodable file names carry them).
    """
    return text.replace("\x00", "").encode(errors="replace").decode()[-LONGEST:]
