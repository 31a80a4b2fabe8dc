"""Puts this directory on the path of the tests, so that they share modules."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
