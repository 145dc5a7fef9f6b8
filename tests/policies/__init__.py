"""NetworkPolicies enforced on the test cluster's node: kube-router's policy controller, built from its Go module.

A tool of tests only: its other two parts, router and service proxy, have known security flaws, and are never switched on here.
"""
