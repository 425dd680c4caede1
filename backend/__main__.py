"""`python -m backend`: the call backend. Exit codes: 0 stopped, 1 cannot start."""

from __future__ import annotations

import sys

from backend.run import main

if __name__ == "__main__":
    sys.exit(main())
