"""Serialization formats: each flavor knows one, saves model objects to bytes and loads bytes to runnable models."""
