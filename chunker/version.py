"""The version, apart from the package's front, so that every part may name it."""

__version__ = "0.1.0"
