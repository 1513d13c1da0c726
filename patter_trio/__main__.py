"""``python -m patter_trio`` is the launcher."""

import sys

from patter_trio.cli import main

sys.exit(main())
