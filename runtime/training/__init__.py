"""What training a projector or a language model needs, as plain functions: no loop, no trainer.

conversation -> labels -> batch -> expand -> loss; sampler says in which order, rates and groups how fast.
"""
