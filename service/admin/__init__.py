"""What operators use over HTTP."""
