"""The training core: the only place that imports torch. Private."""
