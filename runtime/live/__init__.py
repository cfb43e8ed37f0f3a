"""Graphs run on a model that a program holds in memory, in place of a checkpoint's files."""
