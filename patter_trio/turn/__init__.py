"""Turn detectors: models that distinguish the end of a turn from a pause. The rules are in ``conversation/``."""
