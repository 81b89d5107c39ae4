"""`python -m resfit` is the command `resfit`."""

import sys

from resfit.cli import main

sys.exit(main())
