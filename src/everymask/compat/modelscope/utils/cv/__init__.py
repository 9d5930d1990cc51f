"""As ``modelscope.utils.cv``."""
