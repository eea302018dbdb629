"""Faults of the outside world: subscribers and mail servers that fail in every way they know."""

from collections.abc import Iterator

from ops.chaos.faults import Scene, fault
from ops.chaos.outside import WELL, Mood


def _webhooks(scene: Scene, mood: Mood) -> Iterator[None]:
    yield from _moody(scene, "webhook_mood", mood)


def _mails(scene: Scene, mood: Mood) -> Iterator[None]:
    yield from _moody(scene, "mail_mood", mood)


def _moody(scene: Scene, which: str, mood: Mood) -> Iterator[None]:
    outside = scene.system.outside
    before = outside.spoiled
    setattr(outside, which, mood)
    try:
        yield
    finally:
        setattr(outside, which, WELL)
        scene.fires(outside.spoiled - before)


@fault("F48", "webhook-hang", "outside", (3.0, 6.0))
def hang(scene: Scene) -> Iterator[None]:
    """Subscribers accept, and say nothing for seconds."""
    yield from _webhooks(scene, Mood(hang_s=6.0))


@fault("F49", "webhook-drip", "outside", (3.0, 6.0))
def drip(scene: Scene) -> Iterator[None]:
    """Subscribers answer a byte at a time."""
    yield from _webhooks(scene, Mood(drip=True))


@fault("F50", "webhook-redirect", "outside", (2.0, 5.0))
def redirect(scene: Scene) -> Iterator[None]:
    """Half of the answers redirect to an address that must never be reached."""
    yield from _webhooks(scene, Mood(status=302, chance=0.5))


@fault("F51", "webhook-reply-lost", "outside", (2.0, 6.0))
def lose_the_answer(scene: Scene) -> Iterator[None]:
    """The subscriber has it, and its answer is lost: it comes again under the same id."""
    yield from _webhooks(scene, Mood(reset=0.5))


@fault("F52", "webhook-errors", "outside", (2.0, 6.0))
def fail(scene: Scene) -> Iterator[None]:
    """A storm of 500 or 429."""
    yield from _webhooks(scene, Mood(status=scene.dice.choice([500, 429]), chance=0.7))


@fault("F53", "mail-fails", "outside", (2.0, 6.0))
def refuse_mail(scene: Scene) -> Iterator[None]:
    """The mail server refuses half for now, or takes them and is gone before it says so."""
    yield from _mails(scene, scene.dice.choice([Mood(chance=0.5), Mood(reset=0.3)]))
