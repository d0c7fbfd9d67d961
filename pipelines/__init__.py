"""From raw purchases to a registered model: ingest, process, eda and train, as local processes or Argo pods."""
