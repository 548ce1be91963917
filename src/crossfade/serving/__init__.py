"""Answering predictions: slots and hot swap, batching, the prediction service, protocols."""
