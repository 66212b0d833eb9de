package websocket

import (
	"net/http"
	"slices"
	"testing"
)

func TestSubprotocols(t *testing.T) {
	supported := []string{"chat", "superchat"}
	tests := []struct {
		id     string
		lines  []string
		ok     bool
		choice string
	}{
		{"P-01", nil, true, ""},
		{"P-01", []string{"chat"}, true, "chat"},
		{"P-01", []string{"foo"}, true, ""},
		{"P-02", []string{"superchat, chat"}, true, "superchat"},
		{"P-02", []string{"foo, chat, superchat"}, true, "chat"},
		{"P-03", []string{"foo", "chat"}, true, "chat"},
		{"P-04", []string{"CHAT"}, true, ""},
		{"P-04", []string{"CHAT, chat"}, true, "chat"},
		{"P-05", []string{"foo ,\tchat"}, true, "chat"},
		{"P-05", []string{",,chat,"}, true, "chat"},
		{"P-05", []string{"", "chat"}, true, "chat"},
		{"P-06", []string{""}, false, ""},
		{"P-06", []string{","}, false, ""},
		{"P-06", []string{" ", "\t,"}, false, ""},
		{"P-07", []string{"ch at"}, false, ""},
		{"P-07", []string{`"chat"`}, false, ""},
		{"P-07", []string{"chat;q=1"}, false, ""},
		{"P-07", []string{"a/b"}, false, ""},
		{"P-07", []string{"ch\xe4t"}, false, ""},
		{"P-07", []string{"chat", "b\x00"}, false, ""},
		{"P-07", []string{"v12.stomp, chat"}, true, "chat"},
		{"P-07", []string{"a!#$%&'*+-.^_|~b`"}, true, ""},
		{"P-08", []string{"chat, chat"}, false, ""},
		{"P-08", []string{"chat", "foo,chat"}, false, ""},
		{"P-08", []string{"chat, foo, foo"}, false, ""},
	}
	for _, tt := range tests {
		offered, ok := offeredSubprotocols(http.Header{"Sec-Websocket-Protocol": tt.lines})
		if tt.lines == nil {
			offered, ok = offeredSubprotocols(http.Header{})
		}
		if ok != tt.ok {
			t.Errorf("%s: %q: %v, want %v", tt.id, tt.lines, ok, tt.ok)
			continue
		}
		if got := selectSubprotocol(offered, supported); got != tt.choice {
			t.Errorf("%s: %q: chose %q, want %q", tt.id, tt.lines, got, tt.choice)
		}
		if got := selectSubprotocol(offered, nil); got != "" {
			t.Errorf("%s: %q: a server without any chose %q", tt.id, tt.lines, got)
		}
		if got := selectSubprotocol(offered, []string{""}); got != "" {
			t.Errorf("%s: %q: chose %q", tt.id, tt.lines, got)
		}
	}
}

func TestP03OfferedInOrder(t *testing.T) {
	offered, ok := offeredSubprotocols(http.Header{"Sec-Websocket-Protocol": {"b, a", "c", "A"}})
	if want := []string{"b", "a", "c", "A"}; !ok || !slices.Equal(offered, want) {
		t.Errorf("%q, %v, want %q", offered, ok, want)
	}
}
