"""Every error that ramw-fed raises on purpose, as one tree.

```
RamwFedError            E-RAMW       caught by the command line: one sentence, exit status 1
├── ConfigError         E-CONFIG     a knob: unknown, out of range, not to be combined
├── CohortError         E-COHORT     a cohort's files: missing, unreadable, contradictory
├── UpdateError         E-UPDATE     an update that the coordinator does not accept
├── StateError          E-STATE      a center's own tensors of a run: lost, damaged, or another run's
├── FederationError     E-FEDERATION too few centers, an engine that cannot start, a lost connection
├── RunError            E-RUN        a run folder: not resumable, test split already opened
├── PredictionError     E-PREDICTION predictions to be measured or compared: missing, faulty, of other radiographs
├── StudyError          E-STUDY      a study: held-out data touched, a folder of another study, a table altered
├── PrivacyError        E-PRIVACY    what differential privacy does not allow: a network, a mixture, a seed
├── BudgetError         E-BUDGET     the next round would pass the center's cap on epsilon
└── LedgerError         E-LEDGER     a center's privacy ledger: missing, altered, older than the run
```

What is not in the tree the command line calls E-SYSTEM where the operating system refused a file, else E-FAULT: that is
a mistake of ramw-fed's own.

The text says what was wanted, what was found and what to do. It stays on the machine where it was raised:
across a center's border goes only the code with an opaque number (`federation/records.py`).
"""


class RamwFedError(Exception):
    """Anything that ramw-fed refuses."""

    code = "E-RAMW"


class ConfigError(RamwFedError, ValueError):
    """A knob is unknown, out of its range, or cannot be combined with another."""

    code = "E-CONFIG"


class CohortError(RamwFedError, ValueError):
    """A cohort's files are missing, unreadable or contradict each other."""

    code = "E-COHORT"


class UpdateError(RamwFedError, ValueError):
    """A center's update is not what the coordinator asked for."""

    code = "E-UPDATE"


class StateError(RamwFedError, RuntimeError):
    """What a center keeps of a run between rounds is lost, damaged, or belongs to another run."""

    code = "E-STATE"


class FederationError(RamwFedError, RuntimeError):
    """The federation cannot go on: too few centers, or an engine that does not start."""

    code = "E-FEDERATION"


class RunError(RamwFedError, RuntimeError):
    """A run folder does not allow what was asked of it."""

    code = "E-RUN"


class PredictionError(RamwFedError, ValueError):
    """Predictions cannot be measured, or two sets of them not be compared."""

    code = "E-PREDICTION"


class StudyError(RamwFedError, RuntimeError):
    """A study's rules or files do not allow what was asked."""

    code = "E-STUDY"


class PrivacyError(RamwFedError, ValueError):
    """A run, a network or a setting would void the differential privacy that it claims."""

    code = "E-PRIVACY"


class BudgetError(RamwFedError, RuntimeError):
    """What is asked would pass a center's cap on epsilon: nothing was read, trained or spent."""

    code = "E-BUDGET"


class LedgerError(RamwFedError, RuntimeError):
    """A center's privacy ledger is missing, was altered, or is older than a run that has spent from it."""

    code = "E-LEDGER"
