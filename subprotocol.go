package websocket

import (
	"net/http"
	"slices"

	"github.com/sockeye-ws/websocket/internal/httpfield"
)

// offeredSubprotocols returns what a client offers, in its order of
// preference, over several lines if it likes (RFC 6455 §11.3.4). It reports
// false when an offer is no token or stands twice (§4.1).
func offeredSubprotocols(h http.Header) ([]string, bool) {
	offered, ok := httpfield.Tokens(h["Sec-Websocket-Protocol"])
	if !ok {
		return nil, false
	}
	seen := make(map[string]bool) // the list is as long as the peer likes
	for _, p := range offered {
		if seen[p] {
			return nil, false
		}
		seen[p] = true
	}
	return offered, true
}

// selectSubprotocol returns the first of the client's offers that the server
// supports, or "" (§4.2.2). Subprotocols are told apart case by case.
func selectSubprotocol(offered, supported []string) string {
	for _, p := range offered {
		if slices.Contains(supported, p) {
			return p
		}
	}
	return ""
}
