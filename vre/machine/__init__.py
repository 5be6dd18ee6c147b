"""Machines: what they are told at first boot, their own firewall, and SSH."""
