"""The conformance kit: plays the other side of the worker protocol and grades a worker of any language."""
