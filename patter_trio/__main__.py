"""The launcher, run as ``python -m patter_trio``."""

import sys

from patter_trio.cli import main

sys.exit(main())
