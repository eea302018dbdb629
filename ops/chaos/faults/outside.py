"""Faults of the outside world: subscribers and mail servers that fail in every way they know."""

from collections.abc import Iterator

from ops.chaos.bombs import MOST_BYTES
from ops.chaos.faults import Scene, fault
from ops.chaos.memory import grown, resident
from ops.chaos.outside import WELL, Mood

#: On a busy machine deliveries and mails stand in line for seconds: a mood lasts until somebody has met it.
_MET_WITHIN_S = 10.0


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
        scene.comes_true(lambda: outside.spoiled > before, _MET_WITHIN_S)
    finally:
        setattr(outside, which, WELL)
        scene.fires(outside.spoiled - before)


@fault("F48", "webhook-hang", "outside", (3.0, 6.0))
def hang(scene: Scene) -> Iterator[None]:
    """Subscribers accept, and say nothing for seconds."""
    yield from _webhooks(scene, Mood(hang_s=6.0))


@fault("F48", "webhook-drip", "outside", (3.0, 6.0))
def drip(scene: Scene) -> Iterator[None]:
    """Subscribers answer a byte at a time."""
    yield from _webhooks(scene, Mood(drip=True))


@fault("F49", "webhook-bomb", "outside", (3.0, 6.0))
def bomb(scene: Scene) -> Iterator[None]:
    """Half of the answers have no end, or unfold to 256 MiB: nobody reads them, and no worker grows."""
    outside, before = scene.system.outside, resident(scene.system, "worker")
    swallowed = outside.swallowed
    yield from _webhooks(scene, Mood(chance=0.5, bomb=scene.dice.choice(["headers", "body", "gzip", "chained"])))
    for what in grown(before, resident(scene.system, "worker")):
        scene.history.is_strange(f"at a bomb, worker {what}")
    if outside.swallowed > swallowed:
        scene.history.is_strange(f"an answer without end was read for {MOST_BYTES} bytes")


@fault("F50", "webhook-redirect", "outside", (2.0, 5.0))
def redirect(scene: Scene) -> Iterator[None]:
    """Half of the answers redirect to where nobody may go, in one spelling or another."""
    port = scene.system.outside.canary_port
    host = scene.dice.choice(["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"])  # noqa: S104
    status = scene.dice.choice([301, 302, 303, 307, 308])
    yield from _webhooks(scene, Mood(status=status, chance=0.5, location=f"http://{host}:{port}/"))


@fault("F51", "webhook-reply-lost", "outside", (2.0, 6.0))
def lose_the_answer(scene: Scene) -> Iterator[None]:
    """The subscriber has it, and its answer is lost: it comes again under the same id."""
    yield from _webhooks(scene, Mood(reset=0.5))


@fault("F52", "webhook-errors", "outside", (2.0, 6.0))
def fail(scene: Scene) -> Iterator[None]:
    """A storm of 500, or of 429 or 503 with a Retry-After, which is obeyed."""
    yield from _webhooks(scene, Mood(status=scene.dice.choice([500, 429, 503]), chance=0.7))


@fault("F53", "mail-fails", "outside", (2.0, 6.0))
def refuse_mail(scene: Scene) -> Iterator[None]:
    """The mail server refuses half for now, or takes them and is gone before it says so."""
    yield from _mails(scene, scene.dice.choice([Mood(chance=0.5), Mood(reset=0.3)]))


@fault("F53", "mail-greylists", "outside", (3.0, 6.0))
def greylist_mail(scene: Scene) -> Iterator[None]:
    """The mail server takes nothing for an address that it has not seen a while ago."""
    yield from _mails(scene, Mood(greylist=True))


@fault("F53", "mail-refuses", "outside", (2.0, 5.0))
def know_nobody(scene: Scene) -> Iterator[None]:
    """The mail server does not know a third of the addresses: their mails are dead for all to see."""
    yield from _mails(scene, Mood(refuse=0.3))
