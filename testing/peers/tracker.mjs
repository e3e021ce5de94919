// A tracker of npm's bittorrent-tracker, over HTTP and UDP, for any torrent.
//
// Arguments: the module's file, the address and the port to listen on.
// Says "listening" once it does, and ends if it can't.

import { pathToFileURL } from "node:url";

const [module, host, port] = process.argv.slice(2);
const { default: Server } = await import(pathToFileURL(module));
const server = new Server({ http: true, udp: true, ws: false, stats: false });
server.on("error", (error) => {
    console.error(error);
    process.exit(1);
});
// What a client does wrong is its own affair.
server.on("warning", (warning) => console.error(warning.message));
server.listen(Number(port), { http: host, udp4: host }, () => console.log("listening"));
