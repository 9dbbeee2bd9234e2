"""Data of released models, one folder each."""
