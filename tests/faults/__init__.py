"""Faults that people meet, injected into real runs: processes are killed, stores fail, tiles change, clocks are wrong."""
