"""The container's health check: exit code 0 when the server can speak. Standard library only."""

from __future__ import annotations

import json
import os
import sys
import urllib.request

TIMEOUT_S = 4


def main() -> int:
    """Ask /health, which tells its status without a key too."""
    url = f"http://127.0.0.1:{os.environ.get('PORT') or 8000}/health"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
            status = json.load(reply)["status"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{url}: {error}")
        return 1
    print(status)
    return 0 if status == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main())
