"""The job as one SQL query over the file, in DuckDB: on all cores, at once, at rest.

The rule can be said in SQL because the times of these files rise from event to event: an event is
suppressed if the latest earlier one of its point or a neighbour is less than 300 s old. Every event
is noted at its point and at both neighbours; then what was noted last at a point before an event of
its own is the row before it in the order of time.

Usage: duckdb_query.py INPUT OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

READ = """
CREATE TEMP TABLE events AS
SELECT line, (line->>'cid')::BIGINT AS cid, (line->>'time')::DOUBLE AS time
FROM read_csv(?, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '',
              header = false, auto_detect = false)
"""

DECIDE = """
COPY (
    WITH notes AS (
        SELECT cid + shift AS cid, time, shift
        FROM events, (VALUES (-1), (0), (1)) AS shifts(shift)
    ),
    latest AS (
        SELECT time, shift, lag(time) OVER (PARTITION BY cid ORDER BY time) AS near FROM notes
    ),
    kept AS (SELECT time FROM latest WHERE shift = 0 AND (near IS NULL OR time - near >= 300))
    SELECT line FROM events SEMI JOIN kept USING (time) ORDER BY time
) TO '{target}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')
"""


def main(source: Path, target: Path) -> None:
    """Keep what had nothing at its point or a neighbour in the last 300 s."""
    with duckdb.connect() as database:
        database.execute(READ, [str(source)])
        database.execute(DECIDE.replace("{target}", str(target).replace("'", "''")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
