"""The codec of one block in plain Python: the specification in code,
and the core where nothing is compiled."""

from chunker.core.reference.backend import PythonBackend

__all__ = ["PythonBackend"]
