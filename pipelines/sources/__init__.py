"""Where raw examples come from, one file a source."""
