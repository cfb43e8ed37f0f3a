"""Sweeps: a graph over a grid of parameters and the items of a data file, one row of results for each."""
