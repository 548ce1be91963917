"""Replicas: several copies of one version behind one slot, kept alive, balanced and scaled.

See `docs/decisions/0026-replicas-behind-one-slot.md`.
"""
