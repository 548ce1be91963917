"""Batch jobs: one pinned version predicts a whole file, in chunks that survive any crash."""
