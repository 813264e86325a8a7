"""Generated from proto/covey/v1 by `python proto/generate.py`. Never edited."""
