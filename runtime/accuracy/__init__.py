"""Accuracy against tokens: every method beside controls of the same stage and budget, on coloured shapes."""
