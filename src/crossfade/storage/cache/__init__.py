"""Bytes under a key for a while: in the memory of this process, and in a Redis server that several processes share."""
