"""Between which bones a joint space is measured where a cohort does not say."""

from collections.abc import Sequence

Pair = tuple[str, str]

# Spelled as in layout.py.
_OF_RAMW600: tuple[Pair, ...] = (
    ("DistalRadius", "Lunate"),
    ("DistalRadius", "Scaphoid"),
    ("Scaphoid", "Capitate"),
    ("Lunate", "Capitate"),
    ("Capitate", "Metacarpal3rd"),
    ("Trapezium", "Metacarpal1st"),
)


def usual_joint_spaces(bones: Sequence[str]) -> tuple[Pair, ...]:
    """Return RAM-W600's joint spaces between ``bones``; none for a cohort that shows other bones.

    >>> usual_joint_spaces(["Lunate", "Capitate", "DistalRadius"])
    (('DistalRadius', 'Lunate'), ('Lunate', 'Capitate'))
    """
    return tuple(pair for pair in _OF_RAMW600 if set(pair) <= set(bones))
