"""Growth: from rows and values to a path of circuits, gate by gate; knows graphs and prices, no estimator."""
