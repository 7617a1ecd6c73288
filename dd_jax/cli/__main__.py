"""The command line as a module: python -m dd_jax.cli."""

import sys

from dd_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
