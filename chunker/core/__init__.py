"""Prediction and coding in integer arithmetic, the same on every machine. Nothing here imports torch."""
