"""Mails, as the server they went to noted them."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ops.chaos.history import History, Posted
from ops.chaos.judges import judge
from ops.chaos.observe import Seen
from ops.chaos.outside import Mail
from ops.chaos.tenants import NAME, total_of

_MOST_COPIES = 3


@judge("mails are few")
def mails_are_few(history: History, seen: Seen) -> Iterator[str]:
    """One decision is told under one Message-ID, once for each attempt, at most three times for each replay, and to
    nobody else.
    """
    ordered = {posted.email for posted in history.posted}
    again, tried = _replays(history, seen), _attempts(history, seen)
    for recipient, sent in _copies(seen).items():
        if recipient not in ordered:
            yield f"a mail went to somebody who ordered nothing: {recipient}"
        if len(sent) > 1:
            yield f"{recipient} was told under {len(sent)} Message-IDs"
        if (most := max(sent.values())) > _MOST_COPIES * (1 + again[recipient]):
            yield f"{recipient} had {most} copies"
        if recipient in ordered and most > tried[recipient]:
            yield f"{recipient} had {most} copies in {tried[recipient]} attempts"


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


@judge("mails tell the truth")
def mails_tell_the_truth(history: History, seen: Seen) -> Iterator[str]:
    """A mail is about its reader's own order, and says what was decided, of what, at which price."""
    status = {str(order.id): order.status for order in seen.orders}
    wanted = {posted.email: posted for posted in history.accepted()}
    for mail in seen.mails:
        posted = wanted.get(mail.recipient)
        if posted is not None and (missing := _missing(mail, posted, status.get(posted.order_id, "lost"))):
            yield f"{mail.recipient}, whose order {posted.order_id} is there, has {mail.subject!r} without {missing!r}"


def _missing(mail: Mail, posted: Posted, status: str) -> str:
    """The first of the words that had to stand in the mail, and do not."""
    words = [posted.order_id, *(f"{units} x {NAME} ({sku})" for sku, units in posted.lines.items())]
    if status != "rejected":
        words.append(f"Total: {total_of(posted):.2f} USD")
    told = f"Your order {posted.order_id} " + ("cannot be served" if status == "rejected" else "is confirmed")
    missing = [] if mail.subject == told else [told]
    return next(iter([*missing, *(word for word in words if word not in mail.text)]), "")


def _attempts(history: History, seen: Seen) -> Counter[str]:
    """By recipient, how often it was tried to send the mail."""
    tried, emails = Counter(attempt.job_id for attempt in seen.attempts), Counter[str]()
    recipients = {posted.order_id: posted.email for posted in history.accepted()}
    for job in seen.jobs:
        if job.kind.startswith("email.") and str(job.order_id) in recipients:
            emails[recipients[str(job.order_id)]] += tried[job.id]
    return emails


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
