package peer

var uwsServer = &Server{
	Name:     "uws",
	Page:     "https://github.com/uNetworking/uWebSockets.js#readme",
	Settings: "µWebSockets.js 20.30.0 under node, as packaged by @trufflesuite/uws-js-unofficial; App, ws.send from message; maxPayloadLength 32 MiB, maxBackpressure 128 MiB; fan-out by subscribe and app.publish; one thread; compression by SHARED_COMPRESSOR and SHARED_DECOMPRESSOR, or with takeover by DEDICATED_COMPRESSOR_32KB and DEDICATED_DECOMPRESSOR_4KB",
	Command:  []string{"node", "--expose-gc", "uws/server.js"},
	Lacks: map[Mode]string{
		Stream:  "messages are read whole only",
		Writers: "it has one thread",
	},
	Plain:   "it takes certificates from files only",
	Sockets: true,
}
