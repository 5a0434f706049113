"""The errors that samjax raises on purpose: each message says what, why and what to do."""


class SamjaxError(Exception):
    """Base of all errors raised for wrong use or input; the command line exits with 2 on it."""


class CheckpointError(SamjaxError, ValueError):
    """A checkpoint that cannot be read, is unsafe, unsupported or does not fit."""


class DownloadError(SamjaxError, OSError):
    """Official weights that could not be fetched or verified."""


class ImageError(SamjaxError, ValueError):
    """An image that cannot be read or has an unusable shape or dtype."""


class PromptError(SamjaxError, ValueError):
    """Points, labels, boxes or masks that do not fit together or the image."""


class DeviceError(SamjaxError, ValueError):
    """A device, dtype or precision that this machine or JAX does not offer."""


class AnnotationError(SamjaxError, ValueError):
    """Masks, records or annotation files that cannot be read, written or used together."""


class DetectorError(SamjaxError, ValueError):
    """A detector for text prompts that is missing, unusable or returns unusable boxes."""


class CheckpointWarning(UserWarning):
    """A checkpoint loads, but something about its use had to be guessed."""
