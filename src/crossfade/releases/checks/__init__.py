"""Checks: conditions on measurements that let a rollout go on, hold it, or bring it back."""
