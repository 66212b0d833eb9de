'use strict';

// A server of µWebSockets.js that speaks with the benchmark as the servers in
// Go do: its address in the first line, answers to the commands on its standard
// input, and its end with that input. See ../serve.go.

const readline = require('readline');
// The binary itself: the package would fall back to one in JavaScript.
const { platform, arch, versions } = process;
const uWS = require(
  `@trufflesuite/uws-js-unofficial/binaries/uws_${platform}_${arch}_${versions.modules}.node`,
);

const mode = process.argv[process.argv.indexOf('-mode') + 1];
const limit = 32 << 20;
let members = 0;

let compression = uWS.DISABLED;
if (mode === 'deflate') {
  compression = uWS.SHARED_COMPRESSOR | uWS.SHARED_DECOMPRESSOR;
} else if (mode === 'deflate-takeover') {
  compression = uWS.DEDICATED_COMPRESSOR_32KB | uWS.DEDICATED_DECOMPRESSOR_4KB;
}
const app = uWS.App();
const behavior = {
  compression,
  maxPayloadLength: limit,
  // What is beyond would be dropped.
  maxBackpressure: 4 * limit,
  idleTimeout: 0,
  sendPingsAutomatically: false,
  message: (ws, message, isBinary) => {
    ws.send(message, isBinary, compression !== uWS.DISABLED);
  },
};
if (mode === 'fanout') {
  behavior.open = (ws) => {
    ws.subscribe('all');
    members++;
  };
  behavior.close = () => {
    members--;
  };
  behavior.message = (ws, message, isBinary) => {
    app.publish('all', message, isBinary);
  };
}

app.ws('/*', behavior).listen('127.0.0.1', 0, (socket) => {
  if (!socket) {
    throw new Error('cannot listen');
  }
  print({ Addr: '127.0.0.1:' + uWS.us_socket_local_port(socket) });
});

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const status = { CPU: 0, Members: members, RSS: 0 };
  if (line === 'memory') {
    gc();
    gc();
    status.RSS = process.memoryUsage.rss();
  }
  const used = process.cpuUsage();
  status.CPU = (used.user + used.system) * 1000;
  print(status);
});
lines.on('close', () => process.exit(0));

function print(value) {
  process.stdout.write(JSON.stringify(value) + '\n');
}
