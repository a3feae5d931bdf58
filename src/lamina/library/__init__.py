"""The engine as a library: `lamina.Engine`, `lamina.Image`, `lamina.Layer`, `lamina.Container`. Thin: the rooms below do the work."""
