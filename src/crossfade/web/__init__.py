"""HTTP: the control plane, the data plane, and the server that runs both."""
