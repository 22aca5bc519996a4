"""What the coordinator accepts of an answer. One bad answer costs that answer and never the run.

In this order, and the first failure rejects it: known center (by its connection, never by what the answer says), the
right question (run, purpose, task, round, base weights, nonce; each once), size, table of contents, names, sizes and
types of tensors, facts, finite values, running variances, number of examples, what a protected update cost; last, over
a round's updates, length. What was validated or measured has its own rules in ``measurements.py``.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from flwr.app import Message
from torch import Tensor

from ramw_fed.center import Enrolment, Update
from ramw_fed.errors import BudgetError, LedgerError, StateError, UpdateError
from ramw_fed.federation.packets import Shape
from ramw_fed.federation.records import Ticket, read_ticket, read_update, refusal_text
from ramw_fed.privacy.account import Charge
from ramw_fed.privacy.workload import Workload

T = TypeVar("T")

STRANGER = "E-UPDATE-STRANGER"
STALE = "E-UPDATE-STALE"
DUPLICATE = "E-UPDATE-DUPLICATE"
TENSORS = "E-UPDATE-TENSORS"
FINITE = "E-UPDATE-FINITE"
VARIANCE = "E-UPDATE-VARIANCE"
EXAMPLES = "E-UPDATE-EXAMPLES"
NAME = "E-UPDATE-NAME"
NORM = "E-UPDATE-NORM"
MISSING = "E-UPDATE-MISSING"
MEASURES = "E-UPDATE-MEASURES"
CENTER = "E-CENTER"
PRIVACY = "E-UPDATE-PRIVACY"
STATE = StateError.code

# What a center may call its refusal by; anything else is its own affair.
_TOLD = (STATE, BudgetError.code, LedgerError.code)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why an answer was not taken.

    Attributes:
        center: Name of the center whose connection it came from.
        task: Name of the task; empty where the answer does not tell.
        code: One of this module's codes.
        reason: One sentence, without anything that a center wishes to keep.
    """

    center: str
    task: str
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """An order that was sent, and to whom."""

    node: int
    center: str
    ticket: Ticket


@dataclass(frozen=True, kw_only=True)
class Sifted(Generic[T]):
    """Answers by (task, center), and those that were refused."""

    answers: dict[tuple[str, str], T] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)


def coded(code: str, text: str) -> UpdateError:
    """Return an error that carries one of this module's codes."""
    error = UpdateError(text)
    error.code = code
    return error


def sift(
    questions: Sequence[Question], replies: Iterable[Message], read: Callable[[Message, Question], T]
) -> Sifted[T]:
    """Match replies to questions and read them; whatever is wrong with one is kept as its rejection."""
    asked = {question.ticket.nonce: question for question in questions}
    names = {question.node: question.center for question in questions}
    answered: set[str] = set()
    sifted: Sifted[T] = Sifted()
    for reply in replies:
        question = _question_of(reply, asked)
        try:
            if question is None:
                raise _stray(reply, names)
            if question.ticket.nonce in answered:
                raise coded(DUPLICATE, "a second answer to one question was dropped")
            answered.add(question.ticket.nonce)
            sifted.answers[question.ticket.task, question.center] = _read(reply, question, read)
        except UpdateError as error:
            center = question.center if question else names.get(reply.metadata.src_node_id, "unknown")
            task = question.ticket.task if question else ""
            sifted.rejections.append(Rejection(center=center, task=task, code=error.code, reason=str(error)))
    sifted.rejections.extend(_missing(question) for nonce, question in asked.items() if nonce not in answered)
    return sifted


def _question_of(reply: Message, asked: Mapping[str, Question]) -> Question | None:
    # Flower copies a question's group to every reply, also to the error that its own link makes for a lost center.
    question = asked.get(reply.metadata.group_id)
    is_own = question is not None and (reply.metadata.src_node_id == question.node or reply.has_error())
    return question if is_own else None


def _stray(reply: Message, names: Mapping[int, str]) -> UpdateError:
    if reply.metadata.src_node_id not in names:
        return coded(STRANGER, "an answer came from a center that was not asked")
    return coded(STALE, "the answer belongs to another question and was dropped")


def _read(reply: Message, question: Question, read: Callable[[Message, Question], T]) -> T:
    if reply.has_error():
        text = refusal_text(reply)
        raise coded(next((code for code in _TOLD if text.startswith(f"{code} ")), CENTER), text)
    try:
        if _ticket(reply) != question.ticket:
            raise coded(STALE, "the answer belongs to another round, task, run or base model and was dropped")
        return read(reply, question)
    except UpdateError:
        raise
    except Exception as error:  # whatever else strange bytes can bring about must not end the run
        raise coded(TENSORS, f"the answer cannot be read: {type(error).__name__}") from error


def _ticket(reply: Message) -> Ticket:
    try:
        return read_ticket(reply)
    except UpdateError as error:
        raise coded(STALE, str(error)) from error


def _missing(question: Question) -> Rejection:
    reason = "no answer came in time"
    return Rejection(center=question.center, task=question.ticket.task, code=MISSING, reason=reason)


def read_checked_update(
    message: Message,
    question: Question,
    expected: Mapping[str, Shape],
    enrolment: Enrolment,
    planned: Workload | None = None,
    told: Callable[[Charge | None], None] = lambda _: None,
) -> Update:
    """Return a center's update, with every check that needs no other update.

    Args:
        message: The answer.
        question: What it answers.
        expected: Its tensors.
        enrolment: What the center registered.
        planned: How a private run draws on the center's patients; None where it protects nobody.
        told: Hears what the update cost before it is checked.

    Raises:
        UpdateError: With the code of the first check that failed.
    """
    try:
        update = read_update(message, expected)
    except UpdateError as error:
        raise coded(TENSORS, str(error)) from error
    refuse_other_name(update.center, question)
    told(update.charge)
    for name, tensor in sorted(update.weights.items()):
        if not _is_finite(tensor):
            raise coded(FINITE, f"{name!r} holds a value that is not finite")
    for name, tensor in sorted(update.weights.items()):
        if name.endswith("running_var") and not bool((tensor > 0).all()):
            raise coded(VARIANCE, f"{name!r} holds a variance that is not positive")
    if not 1 <= update.examples <= enrolment.examples:
        raise coded(EXAMPLES, f"{update.examples} examples were used; {enrolment.examples} are enrolled")
    if update.steps < 1:
        raise coded(EXAMPLES, "no step was done")
    refuse_other_charge(update.charge, planned)
    if planned and update.steps != planned.steps:
        raise coded(PRIVACY, f"{update.steps} steps were done; {planned.steps} follow from the run")
    return update


def refuse_other_charge(charge: Charge | None, planned: Workload | None) -> None:
    """Raise unless what came is protected as the run says; that its noise is real only the center can see to."""
    if planned is None and charge is None:
        return
    if planned is None or charge is None:
        raise coded(PRIVACY, f"the answer is{' not' * (charge is None)} protected, and the run says otherwise")
    found = (charge.patients, charge.sampling_rate, charge.steps)
    wanted = (planned.patients, planned.sampling_rate, planned.steps)
    if found != wanted:
        raise coded(PRIVACY, f"(patients, sampling rate, steps) are {found}; {wanted} follow from the run")
    if charge.noise_multiplier <= 0 or not 0 < charge.delta < 1:
        raise coded(PRIVACY, "the noise multiplier is 0, or delta no probability: nobody is protected")


def _is_finite(tensor: Tensor) -> bool:
    # A finite sum has finite terms, and is four times as fast to look at; a sum may overflow, so its terms decide.
    return not tensor.dtype.is_floating_point or bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())


def refuse_other_name(name: str, question: Question) -> None:
    """Raise unless an answer bears the name of the center whose connection brought it."""
    if name != question.center:
        raise coded(NAME, f"the connection of {question.center!r} brought an answer in another name")


def update_norm(start: Mapping[str, Tensor], update: Update, names: Iterable[str]) -> float:
    r"""Return :math:`\|w_k - w\|` over the tensors ``names``, summed in float64."""
    lengths = (
        float(torch.linalg.vector_norm(update.weights[name] - start[name], dtype=torch.float64)) for name in names
    )
    return math.hypot(*lengths)


def too_long(norms: Mapping[str, float], max_ratio: float) -> dict[str, str]:
    """Return center to reason for updates longer than ``max_ratio`` times the centers' median.

    The median is over updates that moved at all: a center that has nothing to learn makes nobody else an outlier. Of an
    even number it is the lower of the middle two. Where there are two only, nobody can say whether one ran away or the
    other held back: both are refused.
    """
    moved = [norm for norm in norms.values() if norm > 0]
    if not moved:
        return {}
    limit = max_ratio * sorted(moved)[(len(moved) - 1) // 2]
    if len(moved) == 2 and not max(moved) <= limit:
        reason = f"the only two updates are {min(moved):.3g} and {max(moved):.3g} long, max-norm-ratio apart"
        return {center: reason for center, norm in norms.items() if norm > 0}
    return {
        center: f"the update is {norm:.3g} long, over max-norm-ratio x the centers' median = {limit:.3g}"
        for center, norm in norms.items()
        if not norm <= limit
    }
