"""What the tests and the quickstart run agentd against: Podman, an image, a stand-in runa, git."""
