"""Lamina: a container engine whose heart is images and layers.

`lamina.Engine.open(root)` gives the engine in this process; everything else is reached through it.
Importing this package loads nothing else: programs on the hot path rely on that.
"""

__version__ = "0.1.0"
__all__ = ["Container", "Difference", "Engine", "Image", "Layer", "Limits", "Sandbox", "__version__"]

TYPE_CHECKING = False  # the name type checkers know; typing would cost 2 ms
if TYPE_CHECKING:
    from lamina.library.container import Container
    from lamina.library.difference import Difference
    from lamina.library.engine import Engine
    from lamina.library.image import Image
    from lamina.library.layer import Layer
    from lamina.library.sandbox import Limits, Sandbox


def __getattr__(name: str) -> object:
    if name in __all__:
        place = "sandbox" if name == "Limits" else name.lower()
        module = __import__(f"lamina.library.{place}", fromlist=(name,))
        return getattr(module, name)
    raise AttributeError(f"module 'lamina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
