"""`python -m bert4keras_lite`: see `applications/cli.py`."""

import sys

from .applications.cli import main

sys.exit(main())
