"""Names of other tenants: a caller with unlimited tries could find out which exist, also by dry runs.

That a name is taken, or nobody's, has to be said to those who mean it; so each user is told so often, and no oftener.
"""

from cloud.api import limits
from cloud.events.services import Actor

RATE, BURST = 0.05, 20  # a second; at once


def take(actor: Actor) -> None:
    """Count one more try. Raises RateLimited."""
    verdict = limits.take(f"names:{actor.user_id}", rate=RATE, burst=BURST)
    if not verdict.allowed:
        raise verdict.refusal()
