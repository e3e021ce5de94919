"""A BitTorrent peer on libtorrent, steered by lines of JSON.

Arguments: a JSON object with
  save          the folder of the content
  torrent       the torrent file, or
  magnet        a magnet link
  seed          whether the content is there, and is not to be checked
  have          the numbers of the pieces that are there, and are not to be checked
  host          the address to listen on
  settings      settings of libtorrent, besides those that tests need
Commands on standard input, one JSON object a line: {"connect": "HOST:PORT"}, {"status": true}
Answers on standard output, one JSON object a line: first {"port": PORT}, then one for each command.
It ends when standard input does.
"""

import json
import sys

import libtorrent as lt


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def tell(what):
    print(json.dumps(what), flush=True)


# Those that libtorrent sets by itself are fewer pieces than a torrent may have.
LIMITS = {"max_buffer_size": 64 << 20, "max_pieces": 4 << 20}


def params(given):
    if "magnet" in given:
        wanted = lt.parse_magnet_uri(given["magnet"])
    elif hasattr(lt, "load_torrent_file"):
        wanted = lt.load_torrent_file(given["torrent"], LIMITS)
    else:
        wanted = lt.add_torrent_params()
        wanted.ti = lt.torrent_info(given["torrent"], LIMITS)
    wanted.save_path = given["save"]
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if "have" in given:
        wanted.have_pieces = [piece in given["have"] for piece in range(given["have"][-1] + 1)]
    if given.get("seed"):
        wanted.flags |= lt.torrent_flags.seed_mode
    return wanted


def wait_until_written(session, handle):
    """What is hashed may still be on its way to the disk, and this process is killed in the end."""
    handle.flush_cache()
    while not any(isinstance(alert, lt.cache_flushed_alert) for alert in session.pop_alerts()):
        session.wait_for_alert(10)


def main():
    given = json.loads(sys.argv[1])
    settings = {
        "listen_interfaces": f"{given.get('host', '127.0.0.1')}:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": "",
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        # pe_disabled
        "in_enc_policy": 2,
        "out_enc_policy": 2,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": lt.alert.category_t.storage_notification,
        "announce_to_all_trackers": True,
        "announce_to_all_tiers": True,
        # Announces to a tracker on loopback must not wait for each other.
        "min_announce_interval": 1,
        "tracker_backoff": 1,
    }
    settings.update(given.get("settings", {}))
    session = lt.session(settings)
    handle = session.add_torrent(params(given))
    while session.listen_port() == 0:
        session.wait_for_alert(10)
        session.pop_alerts()
    # Before that it hangs up on whoever connects.
    while "checking" in str(handle.status().state):
        session.wait_for_alert(10)
        session.pop_alerts()
    tell({"port": session.listen_port()})
    written = handle.status().num_pieces
    for line in sys.stdin:
        command = json.loads(line)
        if "connect" in command:
            handle.connect_peer(endpoint(command["connect"]))
            tell({})
        else:
            status = handle.status()
            session.pop_alerts()
            if status.num_pieces != written:
                wait_until_written(session, handle)
                written = status.num_pieces
            tell({
                "state": str(status.state),
                "progress": status.progress,
                "seeding": status.is_seeding,
                "downloaded": status.total_payload_download,
                "uploaded": status.total_payload_upload,
                "peers": status.num_peers,
                "pieces": status.num_pieces,
            })


main()
