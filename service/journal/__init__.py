"""The journal: everything accepted, on disk, in order, until it is needed no more."""
