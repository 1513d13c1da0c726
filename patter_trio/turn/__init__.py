"""Turn detectors: models that tell the end of a turn from a pause. The rules are in ``conversation/``."""
