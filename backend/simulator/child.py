"""`python -m backend.simulator.child PARENT MODULE ARGUMENTS…`: become that module, and end with the parent.

Even a parent that is killed outright leaves no process behind (Linux; elsewhere only an orderly end does).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); survives execve


def main() -> None:
    """Never returns: the process is replaced."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(sys.argv[1]):
            sys.exit("the parent ended before it could be watched")
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])


if __name__ == "__main__":
    main()
