"""Specifications on clusters: submitted to Ray, or rendered as KubeRay manifests."""
