"""The documentation: pages for Sphinx, and the commands that draw, build and publish them."""
