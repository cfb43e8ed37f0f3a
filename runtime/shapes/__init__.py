"""Coloured shapes: procedural pictures and clips with questions, to train tiny models and measure any."""
