"""Round 0: who takes part, with how much, and that all of them mean the same thing."""

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from ramw_fed.center import Enrolment
from ramw_fed.config import RunConfig
from ramw_fed.data.cohort import Description
from ramw_fed.errors import FederationError
from ramw_fed.federation import records, validation
from ramw_fed.federation.exchange import exchange
from ramw_fed.federation.records import MESSAGE_TYPES, Registration, Ticket
from ramw_fed.federation.validation import Question
from ramw_fed.manifest import versions

# A patch release of Python changes no weights.
_FREE_VERSIONS = frozenset({"python"})


@dataclass(frozen=True, kw_only=True)
class Roll:
    """The centers of a run.

    Attributes:
        run: Opaque name of the run.
        nodes: Center to Flower's number of its node, sorted by center.
        enrolments: Task to center to what it has; only centers with a patient to train on, sorted.
        testers: Task to the centers with a test radiograph, sorted; some may have nothing to train on.
        description: What the images of all centers show.
        cohort: One hash for the cohorts of all centers.
        left_out: How many radiographs the centers' readers left out, by reason.
        is_simulated: Whether this machine stands for all centers.
    """

    run: str
    nodes: Mapping[str, int]
    enrolments: Mapping[str, Mapping[str, Enrolment]]
    testers: Mapping[str, Sequence[str]]
    description: Description
    cohort: str
    left_out: Mapping[str, int]
    is_simulated: bool


def call_roll(grid: Grid, config: RunConfig, tasks: Sequence[str]) -> Roll:
    """Wait for the centers and enrol them.

    Where one machine simulates the centers, they know their number; a deployment waits for those in ``centers``.

    Raises:
        FederationError: A center is missing, refused, came twice or runs other versions; or nobody can train a task.
    """
    run = secrets.token_hex(8)
    deadline = time.monotonic() + config.round_timeout
    registered: dict[int, Registration] = {}
    asked: set[int] = set()
    while True:
        arrived = sorted(set(grid.get_node_ids()) - asked)
        asked |= set(arrived)
        registered |= _enrol(grid, config, run, arrived)
        if arrived and not config.taking_part and any(not one.centers for one in registered.values()):
            raise FederationError(
                "centers that stand for themselves came, but the run does not say for whom to wait; "
                'set centers to their names, as in centers = "BTXRD,DHA"'
            )
        missing = _missing(config, registered)
        if registered and not missing:
            break
        if time.monotonic() > deadline:
            raise FederationError(
                f"{', '.join(missing) or 'every center'} did not connect within round-timeout = "
                f"{config.round_timeout:g} s; enrolled: {', '.join(_names(registered)) or 'none'}"
            )
        time.sleep(0.2)
    return _roll(run, config, tasks, registered)


def _enrol(grid: Grid, config: RunConfig, run: str, nodes: Sequence[int]) -> dict[int, Registration]:
    questions, messages = [], []
    for node in nodes:
        ticket = Ticket(run=run, purpose="enrol", task="", round=0, base="", nonce=secrets.token_hex(16))
        questions.append(Question(node=node, center=f"node {node}", ticket=ticket))
        content = records.order_content(ticket, config)
        messages.append(Message(content, node, MESSAGE_TYPES["enrol"], group_id=ticket.nonce))
    replies = exchange(grid, messages, config.round_timeout, lambda _: None)
    sifted = validation.sift(
        questions, replies, lambda reply, question: (question.node, records.read_registration(reply))
    )
    registered = {info.node_id: info.name for info in grid.get_nodes()}
    # A node that is registered under none of the names that the run waits for cannot stop it.
    awaited = set(config.taking_part) or set(registered.values())
    strangers = {f"node {node}" for node, name in registered.items() if name and name not in awaited}
    told = [f"{each.center}: {each.code}, {each.reason}" for each in sifted.rejections if each.center not in strangers]
    if told:
        raise FederationError(f"not every center could enrol: {'; '.join(told)}")
    _refuse_other_names(sifted.answers.values(), registered)
    # A simulation may have more nodes than the cohort has centers; those stand for nobody.
    return {node: one for node, one in sifted.answers.values() if one.center}


def _refuse_other_names(answers: Iterable[tuple[int, Registration]], registered: Mapping[int, str]) -> None:
    """A deployed center's key was registered under its name; a simulated one's was not."""
    for node, one in answers:
        if registered.get(node) and registered[node] != one.center:
            raise FederationError(
                f"the key registered as {registered[node]!r} enrolled as {one.center!r}; "
                "mend name in its center.toml, or register the key anew"
            )


def _missing(config: RunConfig, registered: Mapping[int, Registration]) -> list[str]:
    wanted = set(config.taking_part) or {name for one in registered.values() for name in one.centers}
    return sorted(wanted - {one.center for one in registered.values()})


def _names(registered: Mapping[int, Registration]) -> list[str]:
    return sorted(one.center for one in registered.values())


def _roll(run: str, config: RunConfig, tasks: Sequence[str], registered: Mapping[int, Registration]) -> Roll:
    names = _names(registered)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FederationError(f"{', '.join(twice)} enrolled from two nodes; stop one of them")
    strangers = sorted(set(names) - set(config.taking_part)) if config.taking_part else []
    by_name = {one.center: (node, one) for node, one in registered.items() if one.center not in strangers}
    registrations = {name: by_name[name][1] for name in sorted(by_name)}
    _refuse_other_versions(registrations)
    _refuse_other_descriptions(registrations)
    known = {
        task: {name: one.enrolments[task] for name, one in registrations.items() if task in one.enrolments}
        for task in tasks
    }
    enrolments = {task: {name: one for name, one in own.items() if one.patients > 0} for task, own in known.items()}
    for task, enrolled in enrolments.items():
        if not enrolled:
            raise FederationError(
                f"no center has examples to train {task}; check the cohort's labels and splits (a manifest without any "
                "needs split = 'grouped'), or set tasks"
            )
    first = next(iter(registrations.values()))
    cohorts = {one.cohort: one.left_out for one in registrations.values()}  # simulated centers share one
    hashes = sorted(cohorts)
    return Roll(
        run=run,
        nodes={name: by_name[name][0] for name in registrations},
        enrolments=enrolments,
        testers={task: [name for name, one in own.items() if one.test > 0] for task, own in known.items()},
        description=first.description,
        cohort=hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        left_out=dict(sorted(sum(map(Counter, cohorts.values()), Counter[str]()).items())),
        is_simulated=any(one.centers for one in registrations.values()),
    )


def _refuse_other_versions(registrations: Mapping[str, Registration]) -> None:
    own = versions()
    faults = [
        f"{name} has {package} {one.versions.get(package)}, the coordinator {version}"
        for name, one in registrations.items()
        for package, version in own.items()
        if package not in _FREE_VERSIONS and one.versions.get(package) != version
    ]
    if faults:
        raise FederationError(f"versions differ, and with them the results: {'; '.join(faults)}. Install one set")


def _refuse_other_descriptions(registrations: Mapping[str, Registration]) -> None:
    (first, wanted), *others = registrations.items()
    different = [name for name, one in others if one.description != wanted.description]
    if different:
        raise FederationError(
            f"cohort.toml of {', '.join(different)} differs from that of {first} in bones, joints, grades, sides or "
            "kind; centers that learn one model must describe their images alike"
        )
