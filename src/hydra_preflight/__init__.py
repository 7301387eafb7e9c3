"""Check of a configuration in two parts, neither of which touches data.

``check_structure`` needs no heavy import and answers in a fraction of a second; ``check_targets`` imports what the
configuration names and binds the arguments.
"""

from hydra_preflight.structure import check_structure
from hydra_preflight.targets import check_targets

__all__ = ["check_structure", "check_targets"]
