"""`python -m runpod_server`."""

from runpod_server.entry import main

if __name__ == "__main__":
    main()
