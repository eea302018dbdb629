"""Mails, as the server they went to noted them."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.observe import Seen

_MOST_COPIES = 3


@judge("mails are few")
def mails_are_few(history: History, seen: Seen) -> Iterator[str]:
    """One decision is told under one Message-ID, in at most three copies for each replay, and to nobody else."""
    ordered = {posted.email for posted in history.posted}
    again = _replays(history, seen)
    for recipient, sent in _copies(seen).items():
        if recipient not in ordered:
            yield f"a mail went to somebody who ordered nothing: {recipient}"
        if len(sent) > 1:
            yield f"{recipient} was told under {len(sent)} Message-IDs"
        if (most := max(sent.values())) > _MOST_COPIES * (1 + again[recipient]):
            yield f"{recipient} had {most} copies"


@judge("mails arrive")
def mails_arrive(history: History, seen: Seen) -> Iterator[str]:
    """Who was decided is told."""
    arrived, told = _copies(seen), defaultdict[str, list[str]](list)
    for job in seen.jobs:
        if job.kind.startswith("email."):
            told[str(job.order_id)].append(job.state)
    status = {str(order.id): order.status for order in seen.orders}
    for posted in history.accepted():
        if status.get(posted.order_id) in {"confirmed", "completed", "rejected"} and posted.order_id not in told:
            yield f"nobody was asked to tell {posted.email}"
        if "succeeded" in told[posted.order_id] and posted.email not in arrived:
            yield f"{posted.email} was told, they say, and has no mail"
        if posted.email in seen.refused and posted.email not in arrived and "dead" not in told[posted.order_id]:
            yield f"{posted.email} was refused for good, and nobody can see that"


def _replays(history: History, seen: Seen) -> Counter[str]:
    """By recipient, how often a human let the mail be sent again."""
    told = {job.id: str(job.order_id) for job in seen.jobs if job.kind.startswith("email.")}
    emails = {posted.order_id: posted.email for posted in history.accepted()}
    replayed = [told[letter.job_id] for letter in seen.letters if letter.resolution and letter.job_id in told]
    return Counter(emails[order_id] for order_id in replayed if order_id in emails)


def _copies(seen: Seen) -> dict[str, Counter[str]]:
    """By recipient, how many copies under each Message-ID."""
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    for mail in seen.mails:
        copies[mail.recipient][mail.message_id] += 1
    return copies
