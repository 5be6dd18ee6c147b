"""libvirt: networks, filters, volumes, keys and machines of one hypervisor. The XML is pure, the calls are apart."""
