"""Penstock's daemon: from the sources through the queue and the workers to the sinks."""
