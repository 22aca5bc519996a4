"""Break named lines, one at a time, and show that the fast tests turn red.

Usage: ``python benchmarks/mutants.py [--only NAME]``. Each mutant is made in a copy of the tree, and there the named
test files of ``make test`` run until the first failure. Exit status 1 if any mutant survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """One broken line: in ``file``, ``old`` becomes ``new``; ``tests`` must see it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_PAID = "tests/federation/test_paid_validation.py"
_PRIVATE = "tests/federation/test_private_rounds.py"

MUTANTS = (
    Mutant(
        "a private run is not held to its first order",
        "ramw_fed/federation/kept_releases.py",
        'if path.read_text(encoding="utf-8") != promise:',
        "if False:",
        (f"{_PRIVATE}::test_a_coordinator_cannot_change_a_run_to_see_more",),
    ),
    Mutant(
        "training patients are measured for whoever asks",
        "ramw_fed/federation/apps.py",
        'order.ticket.purpose == "measure" and order.split != "test":',
        "False:",
        (f"{_PRIVATE}::test_training_patients_are_never_measured",),
    ),
    Mutant(
        "what may have left of other weights costs nothing",
        "ramw_fed/federation/apps.py",
        "(reservation.left is not None or kept.has_other(reservation))",
        "reservation.left is not None",
        (f"{_PRIVATE}::test_what_may_have_left_before_a_ledger_was_restored_is_charged_anew",),
    ),
    Mutant(
        "an older ledger is good for another run",
        "ramw_fed/federation/opening.py",
        "    if seen:",
        "    if False:",
        (f"{_PRIVATE}::test_an_older_ledger_is_found_in_another_run_too",),
    ),
    Mutant(
        "seconds tell who was drawn",
        "ramw_fed/center.py",
        "seconds=0.0 if private else time.perf_counter() - started,",
        "seconds=time.perf_counter() - started,",
        (f"{_PRIVATE}::test_seconds_are_not_told",),
    ),
    Mutant(
        "the loss sees other patients",
        "ramw_fed/center.py",
        "examples if private is None else Withheld()",
        "examples",
        (f"{_PRIVATE}::test_a_loss_that_reads_other_patients_is_refused",),
    ),
    Mutant(
        "any noise will do for the coordinator",
        "ramw_fed/federation/promises.py",
        "if not math.isclose(charge.noise_multiplier, wanted, rel_tol=_SAME):",
        "if False:",
        (f"{_PRIVATE}::test_an_update_with_another_charge_is_not_taken",),
    ),
    Mutant(
        "an update that is not taken costs nothing",
        "ramw_fed/federation/validation.py",
        "    told(update.charge)\n",
        "",
        (f"{_PRIVATE}::test_an_update_that_is_not_taken_is_owed_all_the_same",),
    ),
    Mutant(
        "an enrolment tells what stands in the files",
        "ramw_fed/federation/apps.py",
        'account.ledger.opaque("cohort")',
        "account.ledger.opaque(cohort)",
        (f"{_PRIVATE}::test_an_enrolment_is_the_same_whatever_stands_in_a_patients_files",),
    ),
    Mutant(
        "one patient's labels decide where others go",
        "ramw_fed/config.py",
        'if self.split == "grouped":',
        "if False:",
        ("tests/test_config.py",),
    ),
    Mutant(
        "sign of mu",
        "ramw_fed/learning/corrections.py",
        "add_(param - origin, alpha=mu)",
        "add_(param - origin, alpha=-mu)",
        ("tests/learning/test_corrections.py",),
    ),
    Mutant(
        "start weights follow the parameters",
        "ramw_fed/learning/corrections.py",
        "start = [param.detach().clone() for param in params]",
        "start = [param.detach() for param in params]",
        ("tests/learning/test_corrections.py",),
    ),
    Mutant(
        "sort of centers removed",
        "ramw_fed/methods/method.py",
        "names = sorted(ends)",
        "names = list(ends)",
        ("tests/methods",),
    ),
    Mutant(
        "FedBN shares scale and offset",
        "ramw_fed/methods/fedbn.py",
        "return frozenset(name for name in names if _module(name) in modules)",
        "return frozenset(name for name in names if name.rpartition('.')[2] == _STATISTIC)",
        ("tests/methods",),
    ),
    Mutant(
        "centers go on from their last tensors, taken or not",
        "ramw_fed/federation/strategy.py",
        'state.own_rounds |= dict.fromkeys(valid, record["round"])',
        'state.own_rounds |= dict.fromkeys(self.roll.enrolments[task], record["round"])',
        ("tests/federation/test_own_tensors.py",),
    ),
    Mutant(
        "the best weights are measured with the last own tensors",
        "ramw_fed/federation/strategy.py",
        'state.best_own_rounds if purpose == "measure" else state.own_rounds',
        "state.own_rounds",
        ("tests/federation/test_own_tensors.py",),
    ),
    Mutant(
        "a resumed run takes another name",
        "ramw_fed/federation/coordinator.py",
        "state.run = state.run or roll.run",
        "state.run = roll.run",
        ("tests/federation/test_own_tensors.py",),
    ),
    Mutant(
        "own tensors of the best round removed",
        "ramw_fed/federation/apps.py",
        "(order.ticket.round, order.ticket.own, order.best_own)",
        "(order.ticket.round, order.ticket.own)",
        ("tests/federation/test_own_tensors.py",),
    ),
    Mutant(
        "batches of a re-estimate weigh the same",
        "ramw_fed/methods/unseen.py",
        "norm.momentum = len(batch) / seen",
        "norm.momentum = None",
        ("tests/methods/test_unseen.py",),
    ),
    Mutant(
        "integer buffers averaged",
        "ramw_fed/methods/method.py",
        "if not origin.dtype.is_floating_point:",
        "if False:",
        ("tests/methods",),
    ),
    Mutant(
        "last batch dropped",
        "ramw_fed/data/batches.py",
        "zip(starts, [*starts[1:], num_rows], strict=True)]",
        "zip(starts, [*starts[1:], num_rows], strict=True) if end - start >= batch_size]",
        ("tests/data/test_batches.py",),
    ),
    Mutant(
        "mirror forgotten",
        "ramw_fed/data/packed.py",
        "    if mirror and radiograph.side in cohort.description.mirrored_sides:\n        image = ",
        "    if False:\n        image = ",
        ("tests/data/test_packed.py",),
    ),
    Mutant(
        "black bones on white",
        "ramw_fed/data/dicom.py",
        "return 255 - pixels if",
        "return pixels if",
        ("tests/data/test_dicom.py",),
    ),
    Mutant(
        "names in sequences overlooked",
        "ramw_fed/data/dicom.py",
        "dataset.iterall()",
        "dataset",
        ("tests/data/test_dicom.py",),
    ),
    Mutant(
        "a path may leave the folder",
        "ramw_fed/data/manifest_table.py",
        'or ".." in pure.parts',
        "",
        ("tests/data/test_manifest.py",),
    ),
    Mutant(
        "test split opened twice",
        "ramw_fed/run_folder.py",
        'if (self.path / "metrics.json").exists() or',
        "if False or",
        ("tests/test_run_folder.py",),
    ),
    Mutant(
        "non-finite updates accepted",
        "ramw_fed/federation/validation.py",
        "bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())",
        "True",
        ("tests/federation/test_validation.py",),
    ),
    Mutant(
        "validation sums taken as they come",
        "ramw_fed/federation/measurements.py",
        "not task.is_plausible(sums, examples)",
        "False",
        ("tests/federation/test_measurements.py",),
    ),
    Mutant(
        "a center alone keeps its last round",
        "ramw_fed/baselines.py",
        "in_precision(best,",
        "in_precision(weights,",
        ("tests/test_baselines.py",),
    ),
    Mutant(
        "odds ratio without its half",
        "ramw_fed/metrics/classification.py",
        "odds = (tp + 0.5) * (tn + 0.5) / ((fn + 0.5) * (fp + 0.5))",
        "odds = tp * tn / (fn * fp)",
        ("tests/metrics/test_classification.py",),
    ),
    Mutant(
        "center left out of the seed",
        "ramw_fed/center.py",
        "key=(self.config.seed, task.name, round_number, self.name)",
        'key=(self.config.seed, task.name, round_number, "")',
        ("tests/test_center.py",),
    ),
    Mutant(
        "intervals without the correction for small strata",
        "ramw_fed/statistics/intervals.py",
        "draws * (count / (count - 1))",
        "draws * 1.0",
        ("tests/statistics",),
    ),
    Mutant(
        "margin on the wrong side",
        "ramw_fed/statistics/equivalence.py",
        "if low > -margin:",
        "if low > margin:",
        ("tests/statistics/test_equivalence.py",),
    ),
    Mutant(
        "seeds have no degrees of freedom",
        "ramw_fed/statistics/mixed.py",
        'seeds = found.components["seed"] / count',
        "seeds = 0.0",
        ("tests/statistics/test_mixed.py",),
    ),
    Mutant(
        "harm without a margin",
        "ramw_fed/statistics/fairness.py",
        "part.value < -margin",
        "part.value < margin",
        ("tests/statistics/test_fairness.py",),
    ),
    Mutant(
        "worst center's limit not simultaneous",
        "ramw_fed/statistics/fairness.py",
        "tail = 1 - (1 - _TAIL) ** (1 / len(rows))",
        "tail = _TAIL",
        ("tests/statistics/test_fairness.py",),
    ),
    Mutant(
        "power without Holm",
        "ramw_fed/statistics/power.py",
        "return self.alpha / self.contrasts",
        "return self.alpha",
        ("tests/statistics/test_power.py",),
    ),
    Mutant(
        "sign of the prior's log odds",
        "ramw_fed/learning/losses.py",
        'shift = required(config.tau, "erosion.tau") * counts.log_odds()',
        'shift = -required(config.tau, "erosion.tau") * counts.log_odds()',
        ("tests/learning/test_losses.py",),
    ),
    Mutant(
        "threshold of a center with too few patients",
        "ramw_fed/learning/decision.py",
        "part.eroded_patients < wanted or not part.has_both",
        "not part.has_both",
        ("tests/learning/test_decision.py",),
    ),
    Mutant(
        "interval of a class that two patients hold",
        "ramw_fed/metrics/erosion_scopes.py",
        "positives >= FEWEST_PATIENTS",
        "positives > 1",
        ("tests/metrics/test_erosion_scopes.py",),
    ),
    Mutant(
        "sum of patients clipped, not each",
        "ramw_fed/privacy/sgd.py",
        "        factor = clip_factor(norm, self.max_grad_norm)\n",
        "        factor = 1.0\n",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "clip norm of each chunk of a patient",
        "ramw_fed/learning/training.py",
        "        if part.ends_patient:\n            private.take()",
        "        private.take()",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "noise without the clip norm",
        "ramw_fed/privacy/sgd.py",
        "std = self.noise_multiplier * self.max_grad_norm",
        "std = self.noise_multiplier",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "no noise",
        "ramw_fed/privacy/sgd.py",
        "self._sum += self._randomness.normal(self._sum.shape, std, self._sum.device)",
        "pass",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "gradients that are not finite are added",
        "ramw_fed/privacy/sgd.py",
        "    if not math.isfinite(norm):\n        return 0.0\n",
        "    if not math.isfinite(norm):\n        return 1.0\n",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "a patient's gradient stays for the next one",
        "ramw_fed/privacy/sgd.py",
        "            self._sum.add_(self._gradient, alpha=factor)\n        self._gradient.zero_()",
        "            self._sum.add_(self._gradient, alpha=factor)",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "patients of one number, not drawn on their own",
        "ramw_fed/privacy/sgd.py",
        "is_drawn = self._randomness.bernoulli(len(self._rows), self._sampling_rate)",
        "is_drawn = np.arange(len(self._rows)) < round(len(self._rows) * self._sampling_rate)",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "divided by the patients drawn for sure",
        "ramw_fed/privacy/sgd.py",
        "return self._sampling_rate * len(self._rows)",
        "return float(len(self._rows))",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "frozen batch normalisation passes",
        "ramw_fed/privacy/sgd.py",
        "return isinstance(layer, _BatchNorm) or any",
        "return any(param.requires_grad for param in layer.parameters(recurse=False)) and any",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "steps are not counted",
        "ramw_fed/privacy/sgd.py",
        "if self.steps_taken != self._steps:",
        "if False:",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "dropout goes on from patient to patient",
        "ramw_fed/learning/training.py",
        "        _generator(inputs.device).manual_seed(seed)\n",
        "",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "a mean over a patient's rows, not their sum",
        "ramw_fed/learning/training.py",
        "value = objective(inputs, targets) * len(targets)",
        "value = objective(inputs, targets)",
        ("tests/privacy/test_sgd.py",),
    ),
    Mutant(
        "parent and child share a stream",
        "ramw_fed/privacy/randomness.py",
        "if not self._is_seeded and self._process != _process():",
        "if False:",
        ("tests/privacy/test_randomness.py",),
    ),
    Mutant(
        "a seed protects in earnest",
        "ramw_fed/privacy/randomness.py",
        "self._is_seeded = key is not None",
        "self._is_seeded = False",
        ("tests/privacy/test_randomness.py",),
    ),
    Mutant(
        "the audit's bound without delta",
        "ramw_fed/privacy/audit/one_run.py",
        "min(tail + 2 * canaries * delta * steepest, 1.0)",
        "min(tail, 1.0)",
        ("tests/privacy/audit/test_one_run.py",),
    ),
    Mutant(
        "the audit's best of two tries at the error of one",
        "ramw_fed/privacy/audit/one_run.py",
        "return (1 - CONFIDENCE) / len(guess_counts(canaries))",
        "return 1 - CONFIDENCE",
        ("tests/privacy/audit/test_one_run.py",),
    ),
    Mutant(
        "samples that are too regular pass the audit",
        "ramw_fed/privacy/audit/sampling.py",
        "2 * min(chi2.cdf(statistic, freedom), chi2.sf(statistic, freedom))",
        "chi2.sf(statistic, freedom)",
        ("tests/privacy/audit/test_sampling.py",),
    ),
    Mutant(
        "canaries whose coin fell the other way push too",
        "ramw_fed/privacy/audit/canaries.py",
        "np.where(is_in, np.arange(1, len(is_in) + 1), 0)[owners]",
        "np.arange(1, len(is_in) + 1)[owners]",
        ("tests/privacy/audit/test_canaries.py",),
    ),
    Mutant(
        "patients at the threshold are called members",
        "ramw_fed/privacy/audit/membership.py",
        "(members > threshold).sum()",
        "(members >= threshold).sum()",
        ("tests/privacy/audit/test_membership.py",),
    ),
    Mutant(
        "a patient's part of a validation is not cut",
        "ramw_fed/privacy/sums.py",
        "np.asarray(bounded(rows).sum(axis=0)",
        "np.asarray(rows.sum(axis=0)",
        ("tests/privacy/test_sums.py",),
    ),
    Mutant(
        "each number of a validation is cut by itself",
        "ramw_fed/privacy/sums.py",
        "np.linalg.norm(scaled, axis=1, keepdims=True)",
        "np.abs(scaled)",
        ("tests/privacy/test_sums.py",),
    ),
    Mutant(
        "a validation without noise",
        "ramw_fed/privacy/sums.py",
        " + noise.astype(np.float64))",
        " + 0 * noise.astype(np.float64))",
        ("tests/privacy/test_sums.py",),
    ),
    Mutant(
        "one noise for all sums of a validation",
        "ramw_fed/privacy/sums.py",
        "self._randomness.normal((rows.shape[1],), ",
        "self._randomness.normal((1,), ",
        ("tests/privacy/test_sums.py",),
    ),
    Mutant(
        "a validation is released for nothing the second time",
        "ramw_fed/privacy/sums.py",
        "        self._randomness = None\n",
        "",
        ("tests/privacy/test_sums.py",),
    ),
    Mutant(
        "a target of updates alone, with paid validations on top",
        "ramw_fed/privacy/workload.py",
        "solve_noise(workloads, target, delta, before=fixed)",
        "solve_noise(workloads, target, delta)",
        (f"{_PAID}::test_a_target_covers_updates_and_validations",),
    ),
    Mutant(
        "what is lost after it may have left is made again for nothing",
        "ramw_fed/federation/apps.py",
        "    if packed is None and (reservation.left is not None or kept.has_other(reservation)):",
        "    if False:",
        (f"{_PAID}::test_a_validation_that_is_lost_after_it_may_have_left_is_charged_anew",),
    ),
    Mutant(
        "validation patients are looked at and then paid for",
        "ramw_fed/federation/apps.py",
        "    if order.config.pays_to_validate and len(center.validation_patients(task)):",
        "    rows = center.validation_patients(task)\n"
        "    center.validate(task, order.weights, open_account(opened, order.config).sums(task.name, rows, 1))\n"
        "    if order.config.pays_to_validate and len(center.validation_patients(task)):",
        (f"{_PAID}::test_a_center_whose_budget_ends_says_nothing_more_and_no_round_is_chosen_without_it",),
    ),
    Mutant(
        "kept validations push each other out by round only",
        "ramw_fed/federation/kept_releases.py",
        'path.parent.glob(f"{reservation.what}-*")',
        'path.parent.glob("*")',
        (f"{_PAID}::test_what_a_round_released_is_kept_until_the_next_one_has_its_own",),
    ),
    Mutant(
        "a center may add less noise to a validation than the run says",
        "ramw_fed/federation/measurements.py",
        "if charge.noise_multiplier != noise:",
        "if False:",
        (f"{_PAID}::test_sums_that_were_not_paid_for_as_the_run_says_are_not_taken",),
    ),
    Mutant(
        "validation is paid for, and test metrics leave beside it",
        "ramw_fed/config.py",
        'return self.evaluation not in ("none", "paid")',
        'return self.evaluation != "none"',
        ("tests/test_config.py",),
    ),
    Mutant(
        "the log loss of one joint has no end",
        "ramw_fed/tasks/erosion.py",
        ".clip(max=LARGEST_LOSS) - middle",
        " - middle",
        ("tests/tasks/test_erosion.py",),
    ),
    Mutant(
        "a patient's joints are added up, not averaged",
        "ramw_fed/tasks/erosion.py",
        "total / np.maximum(joints, 1) / middle",
        "total / middle",
        ("tests/tasks/test_erosion.py",),
    ),
    Mutant(
        "a class that noise made up chooses the round",
        "ramw_fed/tasks/erosion.py",
        "_SURE = 2.0",
        "_SURE = 0.0",
        ("tests/tasks/test_erosion.py",),
    ),
)


def is_killed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache"))
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8")
        if mutant.old not in text:
            raise SystemExit(f"{mutant.name}: {mutant.file} no longer holds {mutant.old!r}; mend this list")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *mutant.tests]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if answer.returncode not in (0, 1):
            raise SystemExit(f"{mutant.name}: the tests did not run\n{answer.stdout[-2000:]}{answer.stderr[-2000:]}")
        return answer.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="name of one mutant")
    arguments = parser.parse_args()
    survivors = []
    for mutant in MUTANTS:
        if arguments.only in (None, mutant.name):
            killed = is_killed(mutant)
            print(f"{'red  ' if killed else 'GREEN'}  {mutant.name}  ({mutant.file})", flush=True)
            survivors += [] if killed else [mutant.name]
    if survivors:
        raise SystemExit(f"survived: {', '.join(survivors)}")


if __name__ == "__main__":
    main()
