"""The three private details of flwr 1.41 that an in-process grid leans on. A test holds them; the version is pinned."""

from collections.abc import Sequence

from flwr.app import Message
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1


def become_server(run_id: int) -> Run:
    """Give this process the identity without which no ``Message`` can be made, and return an empty run."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE
    return Run.create_empty(run_id)


def stamp(messages: Sequence[Message], names: Sequence[str]) -> None:
    """Name messages, as Flower's own link does when it takes them in."""
    for message, name in zip(messages, names, strict=True):
        message.metadata.__dict__["_message_id"] = name
