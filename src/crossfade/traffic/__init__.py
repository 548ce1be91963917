"""Which version answers: snapshots that every process follows, and the switch that moves aliases safely."""
