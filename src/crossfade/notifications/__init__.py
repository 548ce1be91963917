"""Telling people and other systems what happened: log, webhooks, e-mail."""
