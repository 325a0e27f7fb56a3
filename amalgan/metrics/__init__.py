"""Judging: reconstruction, likelihood, distance, coverage, modes, memorisation; and how sure each number is."""
