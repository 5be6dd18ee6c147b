"""Certificates of an authority that every browser trusts, by ACME (RFC 8555); the names are proven in DNS (dns-01).

The other proofs ask to be let in from addresses that nobody publishes. The credential for DNS stays where the launch
runs.
"""
