"""The method's experiments: what was published, run again with the figures as they come out. Needs torch.

results.py <- baselines.py, lags.py, limits.py, entropy.py, ... <- registry.py
"""
