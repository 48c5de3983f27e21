"""What predicts bits and bytes, in whole numbers alone: the same on every machine, and never torch."""
