"""What a browser shows of runs: the report, one file that needs no network."""
