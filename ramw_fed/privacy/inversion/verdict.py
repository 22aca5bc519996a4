"""What the attacks say of the protection: nothing, unless they succeed where there is none."""

from collections.abc import Sequence

from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.inversion.arms import ARMS, CONTROL, Arm, Finding
from ramw_fed.wording import counted


def control_holds(findings: Sequence[Finding]) -> bool:
    """Whether the attack shows every wanted image where nothing protects it; False without any."""
    control = [one for one in findings if one.arm == CONTROL.name]
    return bool(control) and all(one.likeness.is_reconstruction for one in control)


def checks(findings: Sequence[Finding], arms: Sequence[Arm] = ARMS) -> tuple[Check, Check]:
    """Return what is claimed and what was found, as an audit's checks: the control, then the promise.

    The second cannot hold where the first does not: an attack that never succeeds proves nothing by failing.
    """
    proves = control_holds(findings)
    control = [one for one in findings if one.arm == CONTROL.name]
    shown = sum(one.likeness.is_reconstruction for one in control)
    private = {arm.name for arm in arms if arm.epsilon is not None}
    protected = [one for one in findings if one.arm in private]
    seen = sum(_is_seen(one) for one in protected)
    audited = f"{counted(shown, 'image')} of {len(control)} shown"
    if not proves:
        audited += ": this attack proves nothing"
    return (
        Check(
            name="reconstruction, control",
            claimed="where nothing protects an image, the attack shows it",
            audited=audited,
            holds=proves,
            figures={"shown": shown, "images": len(control)},
        ),
        Check(
            name="reconstruction",
            claimed="no picture is nearer to the true image than another patient's is",
            audited=f"{counted(seen, 'image')} of {len(protected)} shown",
            holds=proves and bool(protected) and seen == 0,
            figures={"shown": seen, "images": len(protected)},
        ),
    )


def _is_seen(finding: Finding) -> bool:
    """Whether the picture is nearer to the truth than the nearest image of another patient is."""
    return finding.likeness.correlation >= finding.likeness.others
