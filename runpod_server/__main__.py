"""`python -m runpod_server`."""

from runpod_server.cli import main

if __name__ == "__main__":
    main()
