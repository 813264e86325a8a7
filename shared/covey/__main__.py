"""`python -m covey` is the command `covey`."""

from covey.cli import main

if __name__ == "__main__":
    main()
