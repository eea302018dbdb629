"""Dead letters: what an operator was told is done is done, and done once."""

from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen


@judge("what an operator did is done")
def resolutions_stand(history: History, seen: Seen) -> Iterator[str]:
    letters = {str(letter.id): letter for letter in seen.letters}
    for letter_id, how in history.resolved.items():
        letter = letters.get(letter_id)
        if letter is None:
            yield f"dead letter {letter_id} was {how}, and is gone"
        elif letter.resolution != how:
            yield f"dead letter {letter_id} was {how}, and is {letter.resolution or 'open'}"
