package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

func TestTwoMembersTalk(t *testing.T) {
	inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
		ada, w := enter(t, ln, "Ada")
		if w.Who.Name != "Ada" || w.Room != "tea" || len(w.People) != 1 || len(w.Messages) != 0 {
			t.Errorf("welcome: %+v", w)
		}
		grace, w := enter(t, ln, "Grace")
		if len(w.People) != 2 || w.People[0].Name != "Ada" {
			t.Errorf("people: %+v", w.People)
		}
		if e := ada.want("joined"); e.Who.Name != "Grace" {
			t.Errorf("joined: %+v", e.Who)
		}

		grace.ask(request{Type: "typing"})
		if e := ada.want("typing"); e.Who.Name != "Grace" {
			t.Errorf("typing: %+v", e.Who)
		}
		grace.ask(request{Type: "say", Text: "hello <b>", Key: "k1"})
		for _, c := range []*client{ada, grace} { // to grace her own message is the first thing that comes
			m := c.want("message").Messages[0]
			if m.Text != "hello <b>" || m.Key != "k1" || m.From.Name != "Grace" {
				t.Errorf("message: %+v", m)
			}
		}

		grace.frame(0x88, []byte{0x03, 0xe9}) // the tab is closed
		if e := ada.want("left"); e.Who.Name != "Grace" {
			t.Errorf("left: %+v", e.Who)
		}
		_, w = enter(t, ln, "Eve")
		if len(w.Messages) != 1 || w.Messages[0].Text != "hello <b>" {
			t.Errorf("history: %+v", w.Messages)
		}
	})
}

// A member that does not read is closed, but not before it is as far behind as it
// may be; the others neither wait for it nor lose anything.
func TestSlowMember(t *testing.T) {
	inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
		slow, _ := enter(t, ln, "Slow")
		reader, _ := enter(t, ln, "Reader")
		const writers, each = 4, allowBurst
		text := strings.Repeat("<", maxText) // in JSON each of them has six bytes
		start := time.Now()
		var joined, heard, left int
		for i := range writers {
			w, _ := enter(t, ln, fmt.Sprint("Writer ", i))
			go func() { // a page reads what it is sent
				for {
					if _, _, err := w.next(); err != nil {
						return
					}
				}
			}()
			for range each {
				w.ask(request{Type: "say", Text: text})
			}
			// Before the next one writes: the reader is not to fall behind.
			for joined <= i || heard < (i+1)*each || left == 0 && i == writers-1 {
				switch e := reader.event(); {
				case e.Type == "joined":
					joined++
				case e.Type == "message":
					heard++
				case e.Type == "left" && e.Who.Name == "Slow":
					left++
					if sent := heard * (6*maxText + 1000); sent < maxBehind {
						t.Errorf("closed after %d messages", heard)
					}
				default:
					t.Fatalf("%s %v", e.Type, e.Who)
				}
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the others waited %v", took)
		}
		if n, _ := slow.wantClose(websocket.StatusPolicyViolation); n >= writers*each {
			t.Errorf("the slow member got all %d events", n)
		}
	})
}

// A peer whose network has gone is noticed by a ping that nobody answers.
func TestDeadPeer(t *testing.T) {
	inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
		ada, _ := enter(t, ln, "Ada")
		dead, _ := enter(t, ln, "Dead")
		ada.want("joined")
		dead.silent = true
		start := time.Now()
		if e := ada.want("left"); e.Who.Name != "Dead" {
			t.Errorf("left: %+v", e.Who)
		}
		// By the library's keepalive: the second connection is pinged after
		// 25.5 s instead of 30 s, since pings are spread, and has 20 s then.
		if took := time.Since(start); took != 45500*time.Millisecond {
			t.Errorf("noticed after %v", took)
		}
	})
}

func TestRefusals(t *testing.T) {
	join := joinAs("Ada", "tea")
	long := join
	long.Name = strings.Repeat("n", maxName+1)
	text := func(v any) []byte {
		p, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		name   string
		joined bool // before this
		b0     byte
		send   []byte
		code   websocket.StatusCode
	}{
		{"nothing", false, 0, nil, statusBadRequest},
		{"not JSON", false, 0x81, []byte("hello"), statusBadRequest},
		{"binary", false, 0x82, text(join), websocket.StatusUnsupportedData},
		{"speaks before it joins", false, 0x81, text(request{Type: "say", Text: "x"}), statusBadRequest},
		{"long name", false, 0x81, text(long), statusRefused},
		{"joins twice", true, 0x81, text(join), statusBadRequest},
		{"empty text", true, 0x81, text(request{Type: "say", Text: " \n"}), statusRefused},
		{"long text", true, 0x81, text(request{Type: "say", Text: strings.Repeat("x", maxText+1)}), statusRefused},
		{"longer than any request", true, 0x81, bytes.Repeat([]byte("x"), maxRequest+1), websocket.StatusMessageTooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
				c := open(t, ln)
				start := time.Now()
				if tt.joined {
					c.ask(join)
					c.want("welcome")
				}
				if tt.send != nil {
					c.frame(tt.b0, tt.send)
				}
				if n, _ := c.wantClose(tt.code); n != 0 {
					t.Errorf("%d events before the close", n)
				}
				if took := time.Since(start); tt.send == nil && took != joinTimeout || tt.send != nil && took != 0 {
					t.Errorf("closed after %v", took)
				}
			})
		})
	}
}

// One that floods the room is stopped before anybody is too far behind.
func TestFlood(t *testing.T) {
	inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
		ada, _ := enter(t, ln, "Ada")
		flood, _ := enter(t, ln, "Flood")
		ada.want("joined")
		for range allowBurst + 1 {
			flood.ask(request{Type: "say", Text: "x"})
		}
		for range allowBurst {
			ada.want("message")
		}
		ada.want("left")
		if _, reason := flood.wantClose(statusRefused); reason == "" {
			t.Error("no reason for the person to read")
		}
	})
}

func TestShutdown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		silent bool
		took   time.Duration
	}{
		{"all answer", false, 0},
		{"one is dead", true, shutdownTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
				ada, _ := enter(t, ln, "Ada")
				waiting := open(t, ln) // has not joined yet
				dead := open(t, ln)
				dead.silent = tt.silent
				var pages sync.WaitGroup
				defer pages.Wait()
				for _, c := range []*client{ada, waiting, dead} {
					pages.Go(func() { c.wantEnd(websocket.StatusServiceRestart) })
				}
				synctest.Wait()
				start := time.Now()
				if err := stop(); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]int{
		"http://chat.example":     http.StatusSwitchingProtocols,
		"https://app.example.com": http.StatusSwitchingProtocols,
		"https://evil.example":    http.StatusForbidden,
		"http://app.example.com":  http.StatusForbidden,
	} {
		inServer(t, []string{"https://app.example.com"}, func(t *testing.T, ln *memconn.Listener, stop func() error) {
			if _, res := dial(t, ln, origin); res.StatusCode != want {
				t.Errorf("%s: %s, want %d", origin, res.Status, want)
			}
		})
	}
}

func TestPage(t *testing.T) {
	h := routes(newUpgrader(newHub(), nil))
	for path, typ := range map[string]string{
		"/": "text/html", "/style.css": "text/css", "/chat.js": "text/javascript",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), typ) {
			t.Errorf("%s: %d %q", path, w.Code, w.Header().Get("Content-Type"))
		}
		if !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", path)
		}
	}
}

// The page comes from one place, and nothing in it can turn text into markup.
func TestPageStaysPlain(t *testing.T) {
	outside := regexp.MustCompile(`(?i)(src|href|url|import)\b[\s=(]*["']?(https?:)?//|innerHTML|outerHTML|insertAdjacentHTML|document\.write`)
	err := fs.WalkDir(page, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(page, path)
		if found := outside.Find(text); found != nil {
			t.Errorf("%s: %q", path, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPageURL(t *testing.T) {
	got := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	for asked, want := range map[string]string{
		"localhost:8080": "http://localhost:8080/",
		":8080":          "http://localhost:8080/",
		"0.0.0.0:8080":   "http://localhost:8080/",
		"127.0.0.1:0":    "http://127.0.0.1:8080/",
		"[::1]:0":        "http://[::1]:8080/",
	} {
		if u := pageURL(asked, got); u != want {
			t.Errorf("%s: %s, want %s", asked, u, want)
		}
	}
}
