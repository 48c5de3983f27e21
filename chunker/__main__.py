"""`python -m chunker` is the command `chunker`: for torchrun, which starts modules."""

from chunker.cli.entry import chunker

if __name__ == "__main__":
    chunker()
