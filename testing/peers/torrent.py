"""Makes a torrent with libtorrent.

Arguments: a JSON object with
  out           the torrent file to write
  path          the file or folder
  piece         the length of a piece in bytes
  kind          v1, v2 or hybrid
  trackers      a list of tiers, each a list of URLs
  web_seeds     a list of URLs
  private       whether it is
Tells the info-hashes as JSON on standard output.
"""

import json
import os
import sys

import libtorrent as lt

given = json.loads(sys.argv[1])
found = lt.file_storage()
lt.add_files(found, given["path"])
# In the order of their names: that of the file system is another one each time.
storage = lt.file_storage()
for i in sorted(range(found.num_files()), key=lambda i: found.file_path(i).split("/")):
    storage.add_file(found.file_path(i), found.file_size(i), found.file_flags(i))
flags = {
    "v1": getattr(lt.create_torrent, "v1_only", 64),
    "v2": getattr(lt.create_torrent, "v2_only", 32),
    "hybrid": 0,
}[given["kind"]]
torrent = lt.create_torrent(storage, given["piece"], flags=int(flags))
for number, tier in enumerate(given["trackers"]):
    for url in tier:
        torrent.add_tracker(url, number)
for url in given["web_seeds"]:
    torrent.add_url_seed(url)
torrent.set_priv(given["private"])
lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(given["path"])))
with open(given["out"], "wb") as out:
    out.write(lt.bencode(torrent.generate()))
hashes = lt.torrent_info(given["out"]).info_hashes()
print(json.dumps({"v1": str(hashes.v1) if hashes.has_v1() else None, "v2": str(hashes.v2) if hashes.has_v2() else None}))
