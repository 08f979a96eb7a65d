"""The cluster's own metrics: cAdvisor's of containers, and CoreDNS'."""
