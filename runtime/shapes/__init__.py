"""Coloured shapes: procedural pictures and clips with questions, the benchmark and the training data of the tiny models."""
