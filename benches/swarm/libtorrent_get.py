"""Fetches a torrent from one peer with libtorrent, as it is by default but for looking for peers elsewhere, and ends.

Arguments: TORRENT HOST:PORT FOLDER
"""

import sys

import libtorrent as lt

if sys.argv[1] == "--version":
    print("libtorrent", lt.version)
    sys.exit()

torrent, peer, folder = sys.argv[1:]
session = lt.session({
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    # It would try uTP first, for three seconds.
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
})
wanted = lt.load_torrent_file(torrent, {"max_buffer_size": 64 << 20, "max_pieces": 4 << 20})
wanted.save_path = folder
wanted.trackers = []
wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
handle = session.add_torrent(wanted)
host, port = peer.rsplit(":", 1)
handle.connect_peer((host, int(port)))
while True:
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        if isinstance(alert, lt.torrent_finished_alert):
            # Nothing that is still in its hands may be missed by who looks at the file.
            handle.flush_cache()
        elif isinstance(alert, lt.cache_flushed_alert):
            sys.exit()
        elif isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
            sys.exit(str(alert))
    if handle.status().is_seeding:
        handle.flush_cache()
