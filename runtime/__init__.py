"""The engine: values, nodes, graphs, plans, runs, caches and models."""
