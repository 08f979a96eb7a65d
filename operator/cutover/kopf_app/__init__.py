"""The operator as a Kopf application: settings, handlers, login, health."""
