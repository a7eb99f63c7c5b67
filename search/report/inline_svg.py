"""Pictures as SVG elements that stand in a page beside each other."""

from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from search.report import plots
from search.text import line

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def inline(figure: Figure, name: str, title: str) -> Markup:
    """A figure as an <svg> element: its ids begin with `name`, since an id must be unique in the whole page."""
    root = ElementTree.fromstring(plots.rendered(figure, name, "svg"))
    for parent in list(root.iter()):
        for child in list(parent):
            # matplotlib's style rule would apply to the whole page; the page's own style has it
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", line(title, 120))
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # safe: serialised, so escaped, by ElementTree
