"""Where kept events go: one short file per sink."""
