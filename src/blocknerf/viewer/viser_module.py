"""viser, the page in the browser, is an extra: this is the one module that imports it."""

from blocknerf.core.errors import UserError

try:
    import viser as viser
except ImportError as error:
    raise UserError("The viewer needs viser. Install it with: pip install 'blocknerf[view]'") from error
