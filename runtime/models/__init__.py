"""Checkpoints, towers, projectors and language models."""
