"""Models in processes of their own: whatever one does, the server and the other models go on.

A model process is confined before it sees the model, gets files and tensors as bytes, and sends back bytes that are
checked; nothing that it sends is ever unpickled. See `docs/decisions/0008-models-in-processes-of-their-own.md`.
"""
