"""What is built once and kept: programs and container images, each under a key of everything that went into it."""
