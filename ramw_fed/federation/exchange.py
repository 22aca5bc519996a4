"""Orders out, answers in, through whatever carries them: only Flower's public push and pull."""

import time
from collections.abc import Callable, Sequence

from flwr.app import Message
from flwr.serverapp import Grid


def exchange(grid: Grid, orders: Sequence[Message], timeout_s: float, tell: Callable[[Message], None]) -> list[Message]:
    """Send orders and return the replies that come within ``timeout_s``, each told of as it comes.

    Only Flower's public push and pull: the wait between two looks grows to 1 s where nothing comes.
    """
    if not orders:
        return []
    pending, replies = {name for name in grid.push_messages(orders) if name}, []
    deadline, wait_s = time.monotonic() + timeout_s, 0.02
    while pending and time.monotonic() < deadline:
        come = list(grid.pull_messages(pending))
        for reply in come:
            pending.discard(reply.metadata.reply_to_message_id)
            tell(reply)
        replies += come
        wait_s = 0.02 if come else min(1.0, wait_s * 1.5)
        if pending and not come:
            time.sleep(wait_s)
    return replies
