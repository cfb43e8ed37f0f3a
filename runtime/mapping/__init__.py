"""One graph over many items: streamed in, one row each, resumed after whatever stopped it."""
