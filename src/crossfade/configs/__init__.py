"""Configs: documents that programs run by, in numbered versions that are checked, approved, activated, taken back."""
