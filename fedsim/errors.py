"""What can go wrong, and whose turn it is to mend it.

FedsimError
├── InputError          the scenario, the command or the data: exit code 2
│   ├── ScenarioError   a scenario that does not say something runnable
│   ├── InUseError      a folder that another process writes to
│   ├── ExistsError     a folder that should be new and is there already
│   └── DataError       images or labels that are missing, damaged or not as declared
└── RunError            a run that failed although its input was fine: exit code 1
    └── DivergedError   training that left the finite numbers; resuming would repeat it
"""


class FedsimError(Exception):
    """Base of every error that fedsim raises on purpose."""


class InputError(FedsimError):
    """Something given by the user cannot be used; the message says what to change."""


class ScenarioError(InputError):
    """A scenario that is not valid, with file, line and key of every problem."""


class InUseError(InputError):
    """A folder that another process writes to."""


class ExistsError(InputError):
    """A folder that should be new and is there already."""


class DataError(InputError):
    """Images or labels that are missing, damaged or not as declared."""


class RunError(FedsimError):
    """A run that failed although its input was fine."""


class DivergedError(RunError):
    """Training that left the finite numbers; resuming would repeat it."""
