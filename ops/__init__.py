"""What operators touch: settings, telemetry, the embedded stack, the command line, deployment."""
