"""Drops a file on a window as a file manager does: the source's side of the XDND protocol, version 5."""
import time
import urllib.parse

from Xlib import X, display
from Xlib.protocol import event


def drop_file(display_name, window_id, x, y, path, patience):
    """Carries `path` to (x, y) of the window and lets go; returns once the window says that it has taken it."""
    d = display.Display(display_name)
    atom = d.intern_atom
    source = d.screen().root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
    window = d.create_resource_object("window", window_id)
    uri_list, selection = atom("text/uri-list"), atom("XdndSelection")
    source.set_selection_owner(selection, X.CurrentTime)
    corner = window.translate_coords(d.screen().root, 0, 0)
    on_screen = (x - corner.x) << 16 | (y - corner.y)

    def tell(message, *data):
        data = [source.id, *data] + [0] * (4 - len(data))
        window.send_event(event.ClientMessage(window=window, client_type=atom(message), data=(32, data)))
        d.flush()

    def wait_for(message):
        """Serves the contents while waiting for the window's message."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not d.pending_events():
                time.sleep(0.005)
                continue
            e = d.next_event()
            if e.type == X.ClientMessage and e.client_type == atom(message):
                return e.data[1]
            if e.type == X.SelectionRequest:
                text = f"file://{urllib.parse.quote(str(path))}\r\n".encode()
                e.requestor.change_property(e.property, uri_list, 8, text)
                e.requestor.send_event(event.SelectionNotify(time=e.time, requestor=e.requestor, selection=e.selection,
                                                             target=e.target, property=e.property))
                d.flush()
        raise AssertionError(f"the window never sent {message}")

    tell("XdndEnter", 5 << 24, uri_list)
    tell("XdndPosition", 0, on_screen, X.CurrentTime, atom("XdndActionCopy"))
    accepts = wait_for("XdndStatus")[1] & 1
    if not accepts:
        raise AssertionError("the window does not take the file")
    tell("XdndDrop", 0, X.CurrentTime)
    wait_for("XdndFinished")
    d.close()
