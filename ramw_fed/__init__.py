"""ramw-fed: six centers learn wrist-bone segmentation and erosion scores together.

The verbs are imported on first use (PEP 562), so that ``import ramw_fed`` alone stays fast and loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ramw_fed.api import compare, evaluate, evaluate_predictions, load_cohort, predict, run

__all__ = ["compare", "evaluate", "evaluate_predictions", "load_cohort", "predict", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ramw_fed import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
