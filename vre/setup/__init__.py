"""What `make setup` does: packages, engine, own hypervisor, secrets of the checkout."""
