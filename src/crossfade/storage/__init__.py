"""Where everything is kept: one SQL database and one content-addressed blob store."""
