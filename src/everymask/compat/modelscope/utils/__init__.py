"""As ``modelscope.utils``."""
