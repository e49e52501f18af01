"""``python -m harness`` is the command ``nemesis``."""

import sys

from harness.cli import main

sys.exit(main())
