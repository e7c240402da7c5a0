"""`python -m mediacdn` is the `mediacdn` command."""

from mediacdn.cli import main

if __name__ == "__main__":
    main(prog_name="mediacdn")
