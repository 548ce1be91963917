"""Ensembles: versions that are made of versions, whose answers are combined into one."""
