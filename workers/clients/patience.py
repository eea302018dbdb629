"""The short retry, inside one attempt: what a moment may heal is tried three times within seconds, nothing else is.

Between attempts the kind's policy decides (domain/jobs/retry_policy.py). What the outside has answered for good, a 400
or a refused mail, is raised at once.
"""

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)


class TransientError(Exception):
    """Raise it for an answer that a moment may heal, such as a 503."""


#: `patiently(function, *args)`: its value, or what it raised last. No call begins later than 5 s after the first one.
patiently = Retrying(
    retry=retry_if_exception_type((TransientError, ConnectionError, TimeoutError)),
    stop=stop_after_attempt(3) | stop_after_delay(5.0),
    wait=wait_exponential(multiplier=0.25) + wait_random(0.0, 0.2),
    reraise=True,
)
