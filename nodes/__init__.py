"""The built-in nodes: one file per stage. Importing this registers them all."""
