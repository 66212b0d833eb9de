package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// hsCompresses is a server that insists on something.
func hsCompresses(name string, c HandshakeCompression) *HandshakeServer {
	c.Enable = true
	return &HandshakeServer{Name: name, Compression: c}
}

var (
	hsSmall       = hsCompresses("windows of 9 and 10", HandshakeCompression{ServerWindowBits: 9, ClientWindowBits: 10})
	hsSmallest    = hsCompresses("windows of 8", HandshakeCompression{ServerWindowBits: 8, ClientWindowBits: 8})
	hsLargest     = hsCompresses("windows of 15", HandshakeCompression{ServerWindowBits: 15, ClientWindowBits: 15})
	hsAlone       = hsCompresses("no takeover", HandshakeCompression{ServerNoContextTakeover: true, ClientNoContextTakeover: true})
	hsServerAlone = hsCompresses("no takeover by the server", HandshakeCompression{ServerNoContextTakeover: true})
	hsClientAlone = hsCompresses("no takeover by the client", HandshakeCompression{ClientNoContextTakeover: true, ClientWindowBits: 11})
)

// hsOffers are rows of a server: offers of permessage-deflate, without its name,
// and parameters of the answer, without it; "-" for no agreement.
func hsOffers(server *HandshakeServer, pairs ...string) (rows []HandshakeRow) {
	for i := 0; i < len(pairs); i += 2 {
		row := HandshakeRow{Server: server, Add: "Sec-WebSocket-Extensions: permessage-deflate" + pairs[i], Want: hsDecline}
		if pairs[i+1] != "-" {
			row.Want = HandshakeAnswer{Status: 101, Extension: "permessage-deflate" + pairs[i+1]}
		}
		rows = append(rows, row)
	}
	return rows
}

// hsDeclined are offers that no server can accept.
func hsDeclined(offers ...string) (rows []HandshakeRow) {
	for _, server := range []*HandshakeServer{handshakeCompressing, hsSmall, hsAlone} {
		for _, offer := range offers {
			rows = append(rows, hsOffers(server, offer, "-")...)
		}
	}
	return rows
}

var handshakeDeflateRules = []handshakeRule{
	{"N-01", "an offer without wishes", slices.Concat(
		hsOffers(handshakeCompressing, "", "; client_no_context_takeover; server_max_window_bits=12"),
		hsOffers(hsAlone, "", "; server_no_context_takeover; client_no_context_takeover"),
		hsOffers(hsServerAlone, "", "; server_no_context_takeover; client_no_context_takeover"),
		hsOffers(hsLargest, "", ""))},
	{"N-02", "client_max_window_bits is answered by a size", slices.Concat(
		hsOffers(handshakeCompressing, "; client_max_window_bits", "; server_max_window_bits=12; client_max_window_bits=12"),
		hsOffers(hsLargest, "; client_max_window_bits", "; client_max_window_bits=15"),
		hsOffers(hsAlone, "; client_max_window_bits", "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15"))},
	{"N-03", "and by none that is larger than offered", slices.Concat(
		hsOffers(handshakeCompressing, "; client_max_window_bits=10", "; server_max_window_bits=12; client_max_window_bits=10",
			"; client_max_window_bits=8", "; server_max_window_bits=12; client_max_window_bits=8",
			"; client_max_window_bits=15", "; server_max_window_bits=12; client_max_window_bits=12"),
		hsOffers(hsLargest, "; client_max_window_bits=9", "; client_max_window_bits=9"),
		hsOffers(hsSmall, "; client_max_window_bits=9", "; server_max_window_bits=9; client_max_window_bits=9"))},
	{"N-04", "server_no_context_takeover is agreed to", slices.Concat(
		hsOffers(handshakeCompressing, "; server_no_context_takeover", "; server_no_context_takeover; client_no_context_takeover"),
		hsOffers(hsLargest, "; server_no_context_takeover", "; server_no_context_takeover"))},
	{"N-05", "client_no_context_takeover is, too", slices.Concat(
		hsOffers(handshakeCompressing, "; client_no_context_takeover; client_max_window_bits", "; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=15"),
		hsOffers(hsLargest, "; client_no_context_takeover", "; client_no_context_takeover"),
		hsOffers(hsClientAlone, "; client_max_window_bits", "; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=11"))},
	{"N-06", "server_max_window_bits=15 is answered by some size", slices.Concat(
		hsOffers(handshakeCompressing, "; server_max_window_bits=15", "; client_no_context_takeover; server_max_window_bits=12"),
		hsOffers(hsLargest, "; server_max_window_bits=15", "; server_max_window_bits=15"),
		hsOffers(hsSmall, "; server_max_window_bits=15; client_max_window_bits", "; server_max_window_bits=9; client_max_window_bits=10"))},
	{"N-07", "and each other size by none that is larger", hsSizes(9, 14)},
	{"N-08", "also the smallest", slices.Concat(hsSizes(8, 8),
		hsOffers(hsSmallest, "; client_max_window_bits", "; server_max_window_bits=8; client_max_window_bits=8",
			"; server_max_window_bits=15; client_max_window_bits=15", "; server_max_window_bits=8; client_max_window_bits=8"))},
	{"N-09", "server_max_window_bits has a value", hsDeclined("; server_max_window_bits", "; server_max_window_bits; client_max_window_bits")},
	{"N-10", "which is 8 to 15 in decimal", hsDeclined(hsEach("; server_max_window_bits=", "7", "16", "0", "08", "015", "+9", "9a", "0x9", "10.0", "-9", "99999999999999999999")...)},
	{"N-11", "so is that of client_max_window_bits, if it has one", hsDeclined(hsEach("; client_max_window_bits=", "7", "16", "0", "08", "x", "015", "-8")...)},
	{"N-12", "the takeover parameters have no value", hsDeclined("; server_no_context_takeover=1", "; client_no_context_takeover=true; client_max_window_bits")},
	{"N-13", "no parameter stands twice", hsDeclined("; server_no_context_takeover; server_no_context_takeover", "; client_no_context_takeover; client_no_context_takeover",
		"; client_max_window_bits; client_max_window_bits", "; client_max_window_bits=9; client_max_window_bits=10", "; server_max_window_bits=9; server_max_window_bits=9",
		"; server_max_window_bits=9; client_max_window_bits; server_max_window_bits=10", "; client_max_window_bits; client_max_window_bits=9")},
	{"N-14", "an unknown parameter", hsDeclined("; foo", "; foo=1", "; Server_no_context_takeover", "; client_max_window_bits; foo", "; x; client_max_window_bits")},
	{"N-15", "the first offer that can be had is", slices.Concat(
		hsOffers(handshakeCompressing, "; server_max_window_bits=9, permessage-deflate", "; client_no_context_takeover; server_max_window_bits=9"),
		hsOffers(hsSmall, ", permessage-deflate; client_max_window_bits", "; server_max_window_bits=9; client_max_window_bits=10"))},
	{"N-16", "a bad offer is no obstacle for the next", slices.Concat(
		hsOffers(handshakeCompressing, "; foo, permessage-deflate; server_no_context_takeover", "; server_no_context_takeover; client_no_context_takeover",
			"; server_max_window_bits=16, foo; bar, permessage-deflate; client_max_window_bits", "; server_max_window_bits=12; client_max_window_bits=12"),
		hsOffers(hsLargest, "; foo, permessage-deflate; server_no_context_takeover", "; server_no_context_takeover"))},
	{"N-17", "one of several is answered", slices.Concat(
		hsOffers(handshakeCompressing, ", permessage-deflate; server_no_context_takeover", "; client_no_context_takeover; server_max_window_bits=12"),
		hsOffers(hsLargest, ", permessage-deflate; server_no_context_takeover", ""))},
	{"N-18", "a small window of the client's is insisted on", slices.Concat(
		hsOffers(hsSmall, "; client_max_window_bits", "; server_max_window_bits=9; client_max_window_bits=10"),
		hsOffers(hsClientAlone, "; client_max_window_bits", "; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=11"))},
	{"N-19", "and else there is no compression", slices.Concat(
		hsOffers(hsSmall, "", "-", "; server_max_window_bits=9", "-", "; client_no_context_takeover", "-"),
		hsOffers(hsSmallest, "", "-"), hsOffers(hsClientAlone, "", "-"))},
}

// hsEach puts one thing before each of the others.
func hsEach(before string, values ...string) (all []string) {
	for _, v := range values {
		all = append(all, before+v)
	}
	return all
}

// hsSizes are offers of these sizes for what the server sends.
func hsSizes(from, to int) (rows []HandshakeRow) {
	for n := from; n <= to; n++ {
		offer := fmt.Sprintf("; server_max_window_bits=%d", n)
		rows = slices.Concat(rows,
			hsOffers(handshakeCompressing, offer, fmt.Sprintf("; client_no_context_takeover; server_max_window_bits=%d", min(n, 12)),
				strings.Replace(offer, "=", "=\"", 1)+"\"; client_max_window_bits", fmt.Sprintf("; server_max_window_bits=%d; client_max_window_bits=12", min(n, 12))),
			hsOffers(hsLargest, offer, fmt.Sprintf("; server_max_window_bits=%d", n)),
			hsOffers(hsSmall, offer+"; client_max_window_bits", fmt.Sprintf("; server_max_window_bits=%d; client_max_window_bits=10", min(n, 9))))
	}
	return rows
}
