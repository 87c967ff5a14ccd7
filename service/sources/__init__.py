"""Where events come from: one short file per source."""
