"""`python -m backend`: the call backend.

Exit codes: 0 stopped, 1 cannot start, 2 wrong usage, 130 interrupted before it serves.
"""

from __future__ import annotations

from backend.entry import serve

if __name__ == "__main__":
    serve()
