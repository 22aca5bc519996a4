"""Every check sees the faults it is for, and passes the installed build."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from ramw_fed.learning.corrections import Correction, proximal
from ramw_fed.learning.training import Part
from ramw_fed.privacy import sgd
from ramw_fed.privacy.account import Account
from ramw_fed.privacy.audit.charges import check_charges
from ramw_fed.privacy.audit.mechanism import Mechanism, Protect, protect
from ramw_fed.privacy.audit.one_training import Design, check_one_run
from ramw_fed.privacy.audit.run import audited_config
from ramw_fed.privacy.audit.structure import (
    check_contribution,
    check_correction,
    check_noise,
    check_refusals,
    check_samples,
)
from ramw_fed.privacy.event import Event
from ramw_fed.privacy.ledger import Ledger
from ramw_fed.privacy.randomness import SEED_VARIABLE, seeded
from ramw_fed.privacy.sgd import PatientSteps
from ramw_fed.tasks import get_task


def build(kind: type[PatientSteps] = PatientSteps, **changed: Any) -> Protect:
    """Return the product's protection with another class, or with other numbers than are claimed."""

    def made(patients: NDArray[np.str_], mechanism: Mechanism) -> PatientSteps:
        numbers: dict[str, Any] = {
            "sampling_rate": mechanism.sampling_rate,
            "steps": mechanism.steps,
            "noise_multiplier": mechanism.noise_multiplier,
            "clip_norm": mechanism.clip_norm,
            "randomness": seeded("test", np.random.default_rng().integers(1 << 40)),
            "rows_at_once": 32,
        }
        return kind(patients, **(numbers | changed))

    return made


class PerImage(PatientSteps):
    """Clips each image as if it were a patient's only one."""

    def draw(self, patients: NDArray[np.str_], round_number: int) -> list[list[Part]]:
        return [
            [
                Part(augmentation=part.augmentation, rows=np.array([row]), ends_patient=True)
                for part in parts
                for row in part.rows
            ]
            for parts in super().draw(patients, round_number)
        ]


class Chosen(PatientSteps):
    """Takes other patients than independent coins would."""

    def _draw_step(self, augmentation: int) -> list[Part]:
        return [
            Part(augmentation=augmentation, rows=rows, ends_patient=True)
            for rows, is_drawn in zip(self._rows, self.choose(augmentation), strict=True)
            if is_drawn
        ]

    def choose(self, step: int) -> NDArray[np.bool_]:
        raise NotImplementedError


class Shuffled(Chosen):
    def choose(self, step: int) -> NDArray[np.bool_]:
        a_pass = round(1 / self._sampling_rate)
        order = np.random.default_rng(step // a_pass).permutation(len(self._rows))
        return order % a_pass == step % a_pass


class FixedSize(Chosen):
    def choose(self, step: int) -> NDArray[np.bool_]:
        return np.random.default_rng(step).permutation(len(self._rows)) < self.expected_patients


class ByImages(Chosen):
    def choose(self, step: int) -> NDArray[np.bool_]:
        images = np.array([len(rows) for rows in self._rows])
        return np.random.default_rng(step).random(len(images)) < self._sampling_rate * images / images.mean()


class SkipsEmptySteps(PatientSteps):
    """Draws again until somebody is in the step."""

    def _draw_step(self, augmentation: int) -> list[Part]:
        return super()._draw_step(augmentation) or self._draw_step(augmentation)


def test_the_installed_build_holds() -> None:
    assert check_noise(1.7, 0.5).holds
    assert check_contribution(0.5).holds
    assert check_correction().holds
    assert check_refusals().holds


def test_the_installed_build_takes_independent_samples() -> None:
    assert check_samples(patients=60, steps=20).holds


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.05])
def test_other_noise_than_claimed_is_seen(share: float) -> None:
    assert not check_noise(2.0, 0.5, protect=build(noise_multiplier=2.0 * share)).holds


def test_noise_that_repeats_is_seen() -> None:
    check = check_noise(2.0, 0.5, protect=lambda *args: build(randomness=seeded("always the same"))(*args))
    assert not check.holds
    assert "repeats" in check.audited


def test_a_seed_in_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "7")
    assert not check_noise(2.0, 0.5).holds


def test_clipping_per_image_is_seen() -> None:
    check = check_contribution(0.5, protect=build(PerImage))
    assert not check.holds
    assert check.figures["measured"]["40"] == pytest.approx(20.0, rel=1e-2)


def test_missing_clipping_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "clip_factor", lambda *_: 1.0)
    assert not check_contribution(0.5).holds


def test_clipping_layer_by_layer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three layers, each cut to C by itself, together push by sqrt(3) C.
    take, factor = PatientSteps.take, sgd.clip_factor

    def layer_by_layer(self: PatientSteps) -> None:
        assert self._optimizer is not None
        for param in self._optimizer.params:
            if param.grad is not None:
                param.grad.mul_(factor(float(param.grad.norm()), self._clip_norm))
        take(self)

    monkeypatch.setattr(PatientSteps, "take", layer_by_layer)
    monkeypatch.setattr(sgd, "clip_factor", lambda *_: 1.0)
    check = check_contribution(0.5)
    assert not check.holds
    assert check.figures["measured"]["1"] == pytest.approx(0.5 * 3**0.5, rel=1e-2)


@pytest.mark.parametrize("kind", [Shuffled, FixedSize, ByImages])
def test_batches_that_are_no_poisson_samples_are_seen(kind: type[PatientSteps]) -> None:
    assert not check_samples(patients=60, steps=20, protect=build(kind)).holds


def test_the_same_samples_each_round_are_seen() -> None:
    same = lambda *args: build(randomness=seeded("each round"))(*args)  # noqa: E731
    check = check_samples(patients=60, steps=20, protect=same)
    assert not check.holds
    assert "next round" in check.audited


def test_samples_without_the_empty_ones_are_seen() -> None:
    # Of three patients at rate .2 half of the samples are empty.
    assert not check_samples(patients=3, rate=0.2, steps=40, protect=build(SkipsEmptySteps)).holds


def test_a_correction_inside_the_clip_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[Correction] = []

    class Inside(PatientSteps):
        def take(self) -> None:
            inside[-1]()
            super().take()

    def correct(params: Sequence[Tensor], mu: float) -> Correction:
        inside.append(proximal(params, mu))
        return lambda: None

    check = check_correction(protect=build(Inside), correct=correct)
    assert not check.holds
    assert abs(check.figures["measured"]) < 1e-4


def test_a_correction_that_is_dropped_is_seen() -> None:
    assert not check_correction(correct=lambda *_: lambda: None).holds


def test_batch_normalisation_that_is_let_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "check_network", lambda _: None)
    monkeypatch.setattr(PatientSteps, "finish", lambda _: None)
    assert set(check_refusals().figures["not_refused"]) >= {"batch normalisation", "running statistics"}


def test_frozen_batch_normalisation_that_is_let_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Opacus' validator does: only what is trained is looked at.
    def validator(model: nn.Module) -> None:
        for layer in model.modules():
            if any(param.requires_grad for param in layer.parameters(recurse=False)) and sgd._has_statistics(layer):
                raise sgd.PrivacyError("batch normalisation")

    monkeypatch.setattr(sgd, "check_network", validator)
    monkeypatch.setattr(PatientSteps, "finish", lambda _: None)
    assert "frozen batch normalisation" in check_refusals().figures["not_refused"]


def test_protection_of_other_rows_that_is_let_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "array_equal", lambda *_: True)
    assert "other patients than those protected" in check_refusals().figures["not_refused"]


def test_the_installed_ledger_charges_all_that_is_done(tmp_path: Path) -> None:
    check = check_charges(tmp_path / "ledger")
    assert check.holds, check.audited
    assert check.figures["steps"] == check.figures["charged_steps"] == 36


def test_an_accountant_that_is_reset_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Flower makes the center's app anew for each message; with an accountant in it, only the last round is known.
    monkeypatch.setattr(Ledger, "events", lambda self: list(self.reservations()[-1].events))
    check = check_charges(tmp_path / "ledger")
    assert not check.holds
    assert {"steps", "epsilon"} <= set(check.figures["wrong"])


def test_an_epsilon_of_one_round_only_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charge = Account.charge

    def of_one_round(self: Account, reservation: Any) -> Any:
        monkeypatch.setattr(Ledger, "reservations", lambda _: (reservation,))
        return charge(self, reservation)

    monkeypatch.setattr(Account, "charge", of_one_round)
    monkeypatch.setattr(Ledger, "events", lambda self: [one for r in self.read().reservations for one in r.events])
    assert check_charges(tmp_path / "ledger").figures["wrong"] == ["epsilon"]


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [("_steps", 24, "steps"), ("_noise_multiplier", 1.2, "noise"), ("_sampling_rate", 0.5, "samples")],
)
def test_training_that_is_not_what_was_charged_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: float, wrong: str
) -> None:
    steps = Account.steps

    def other(self: Account, *args: Any, **named: Any) -> PatientSteps:
        private = steps(self, *args, **named)
        setattr(private, field, value)
        return private

    monkeypatch.setattr(Account, "steps", other)
    found = check_charges(tmp_path / "ledger").figures["wrong"]
    assert any(one.startswith(wrong) for one in found)


def test_a_charge_of_less_noise_than_was_asked_for_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = Account.event

    def flattering(self: Account, *args: Any) -> Event:
        true = event(self, *args)
        return Event(sampling_rate=true.sampling_rate, noise_multiplier=3.0, steps=true.steps)

    monkeypatch.setattr(Account, "event", flattering)
    assert {"noise", "epsilon"} <= set(check_charges(tmp_path / "ledger").figures["wrong"])


SMALL = Design(rounds=1, steps=2, sampling_rate=1.0, images=8, patients=6)


def one_run(epsilon: float, protect: Protect = protect, design: Design = SMALL, **chosen: Any) -> Any:
    config = audited_config(None, epsilon)
    task = get_task("erosion")
    return check_one_run(task, config.training("erosion"), epsilon, design=design, seed=1, protect=protect, **chosen)


@pytest.mark.slow
def test_the_one_run_audit_sees_noise_zero_where_three_is_claimed() -> None:
    check = one_run(3.0, build(noise_multiplier=0.0), canaries=500)
    assert not check.holds
    assert check.figures["epsilon"] == check.figures["most"] > 4.5


@pytest.mark.slow
def test_the_one_run_audit_sees_missing_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "clip_factor", lambda *_: 1.0)
    check = one_run(3.0, canaries=500)
    assert not check.holds
    assert check.figures["epsilon"] == check.figures["most"]


@pytest.mark.slow
def test_the_one_run_audit_sees_clipping_per_image() -> None:
    check = one_run(3.0, build(PerImage), canaries=500)
    assert not check.holds


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_the_one_run_audit_passes_the_installed_build(epsilon: float) -> None:
    check = one_run(epsilon, design=Design(images=4, patients=6), canaries=500)
    assert check.holds
    assert check.figures["claimed"] == pytest.approx(epsilon, rel=1e-3)
    assert check.figures["epsilon"] < epsilon


def test_canaries_that_could_refuse_nothing_are_refused() -> None:
    with pytest.raises(sgd.PrivacyError, match="could never refuse"):
        one_run(8.0, canaries=500)
