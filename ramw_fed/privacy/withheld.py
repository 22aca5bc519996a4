"""Training examples that nobody may look at: a loss that depends on other patients would void each one's clipping."""

from typing import NoReturn

from ramw_fed.errors import PrivacyError


class Withheld:
    """Stands for a center's examples where its loss is made under differential privacy."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse."""
        raise PrivacyError(
            f"the loss reads {name!r} of the center's examples, so that one patient's gradient depends on the others; "
            "take a loss of one patient's logits and targets, with counts fixed in the configuration"
        )

    def __len__(self) -> int:
        """Refuse: how many rows there are is the patients' too."""
        return int(self.__getattr__("the number"))
