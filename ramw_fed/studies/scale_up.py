"""Two centers, three, all: what each further one adds, in several random orders of entry."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ramw_fed.seeding import derive_seed
from ramw_fed.studies.results import Entry, Model, Results, is_apart
from ramw_fed.studies.scores import within
from ramw_fed.studies.training import Cell, Ground, federated

DESIGN = "scale-up"


def cells(ground: Ground) -> Iterator[Cell]:
    """Train on the first two, three, .. centers of each order and test at all."""
    for blank, sites in ground.settings():
        trainers = sites.trainers[blank.task]
        for order in entry_orders(trainers, ground.study.config.orders, ground.study.base.seed):
            for count in range(2, len(order) + 1):
                for training in federated(blank, order[:count], ground.study.config.methods):
                    yield Cell(
                        design=DESIGN,
                        training=training,
                        test_centers=sites.testers[blank.task],
                        label=f"{count}: {' '.join(order)}",
                    )


def entry_orders(centers: Sequence[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """Return at most ``count`` different random orders of these centers; the same for every method and training."""
    orders: dict[tuple[str, ...], None] = {}
    for turn in range(20 * count):
        rng = np.random.default_rng(derive_seed(seed, DESIGN, turn))
        orders[tuple(rng.permutation(sorted(centers)).tolist())] = None
        if len(orders) == count:
            break
    return list(orders)


def analyse(results: Results, task: str, metric: str, study: Mapping[str, Any]) -> dict[str, dict[str, Entry]]:
    """Return, by method and number of centers, the measure over all test patients, the mean over orders and seeds."""
    found: dict[str, dict[str, Entry]] = {}
    for method in study["methods"]:
        by_count: dict[str, list[Model]] = {}
        for model in results.models(design=DESIGN, task=task, arm=method):
            by_count.setdefault(model.label.partition(":")[0], []).append(model)
        for count, models in sorted(by_count.items(), key=lambda item: int(item[0])):
            orders = len({model.label for model in models})
            if is_apart(method, metric, study):
                scores = within(results.by_center(metric, models))
            else:
                scores = results.scores(metric, models)
            entry = results.entry(scores)
            found.setdefault(method, {})[count] = {**entry, "orders": orders}
    return found
