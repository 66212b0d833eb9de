package websocket

import (
	"testing"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

func TestAddrs(t *testing.T) {
	client, server := memconn.Pair()
	defer client.Close()
	c := newConn(server, nil, on(Config{}), "chat", nil)
	if c.LocalAddr() != server.LocalAddr() || c.RemoteAddr() != server.RemoteAddr() {
		t.Errorf("local %v, remote %v; want those of the transport", c.LocalAddr(), c.RemoteAddr())
	}
	if c.Subprotocol() != "chat" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	c.CloseNow()
	<-c.Context().Done()
	if c.RemoteAddr() == nil {
		t.Error("no address after the end")
	}
}

// on returns the terms of a connection.
func on(c Config) *terms {
	t := new(terms)
	t.set(c)
	return t
}
