"""Measurements. Each script prints ratios of medians from interleaved runs, and the machine it ran on."""
