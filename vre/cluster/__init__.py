"""Kubernetes: what kubeadm is told, and the objects every cluster has."""
