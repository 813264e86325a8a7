"""`python -m covey` runs the command line `covey`."""

from covey.cli import main

if __name__ == "__main__":
    main()
