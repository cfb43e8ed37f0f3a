"""Training of the tiny models that tokenloom ships: real architectures in miniature, on coloured shapes."""
