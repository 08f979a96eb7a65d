"""One file a check: a module here, or in a provider's folder, that defines ``CHECK`` is one."""
