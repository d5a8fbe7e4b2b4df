"""Commands whose output stands in docs/results.md. Run them on a quiet machine."""
