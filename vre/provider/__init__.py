"""The plugin `vre`: what no Pulumi provider does well, or what must work with no download."""
