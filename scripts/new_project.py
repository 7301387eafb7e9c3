"""Begin a project of one's own: python scripts/new_project.py NAME [--task TASK]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from hydraudio.new_project import main

if __name__ == "__main__":
    sys.exit(main())
