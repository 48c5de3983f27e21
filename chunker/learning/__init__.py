"""Training: the float stack and everything around it. Needs torch, which the extra `[train]` installs.

    corpus.py -> trainer.py <- stack.py <- level.py <- recurrence.py
                    |              ^--- gate.py
    checkpoint.py, evaluate.py

Importing this package loads no torch.
"""
