"""Alerts: one catalogue of rules, evaluated here and exported to Prometheus; who is told, and who wants silence."""
