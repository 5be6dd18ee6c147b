"""What stands in front of the ingress: names and certificates."""
