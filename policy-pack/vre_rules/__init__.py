"""The rules of the policy pack: plain functions that look at one resource each, apart from the engine."""
