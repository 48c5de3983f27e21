"""Bytes to archives and back, over the core: container, blocks, threads, files; never numpy, never torch."""
