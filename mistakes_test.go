package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// A settings' mistake is told by the first handshake, not by what does not work.
func TestSubprotocolsAreTokens(t *testing.T) {
	for _, name := range []string{"", "a b", "a, b", "chat\n", "ü"} {
		var log bytes.Buffer
		u := &websocket.Upgrader{
			Subprotocols: []string{"chat", name},
			Handler:      func(*websocket.Conn) error { return nil },
			Config:       websocket.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))},
		}
		w := newHSWriter(nil)
		if _, err := u.Upgrade(w, hsRequest()); err == nil || !strings.Contains(err.Error(), "is not a token") {
			t.Errorf("%q: %v", name, err)
		}
		if !strings.Contains(log.String(), "is not a token") {
			t.Errorf("%q is not logged: %s", name, &log)
		}
	}
}

// A status that is none is answered with 500, and the log says why.
func TestRefusalWithoutStatus(t *testing.T) {
	var log bytes.Buffer
	u := &websocket.Upgrader{
		Open: func(*http.Request, http.Header) (func(*websocket.Conn) error, error) {
			return nil, &websocket.HandshakeError{}
		},
		Config: websocket.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))},
	}
	u.ServeHTTP(newHSWriter(nil), hsRequest())
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged: %s", &log)
	}
}

// What a handler returns and cannot be sent is named in the log.
func TestCodeThatCannotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		_, client := websocket.Pipe(&websocket.PipeOptions{
			Handler: func(*websocket.Conn) error { return &websocket.CloseError{Code: 1006} },
			Server:  websocket.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))},
		})
		_, _, err := client.Read(context.Background())
		wantClosed(t, err, websocket.StatusInternalError, true)
		<-client.Context().Done()
		synctest.Wait()
		if !strings.Contains(log.String(), "code 1006, which a server cannot send") {
			t.Errorf("logged: %s", &log)
		}
	})
}

// Nil is refused, and breaks nothing.
func TestNilArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		server, client := websocket.Pipe(&websocket.PipeOptions{Server: websocket.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
		if new(websocket.Group).Add(nil) {
			t.Error("nil is a member")
		}
		server.Start(nil)
		_, _, err := client.Read(context.Background())
		wantClosed(t, err, websocket.StatusInternalError, true)
		<-server.Context().Done()
		if !strings.Contains(log.String(), "the Events are nil") {
			t.Errorf("logged: %s", &log)
		}
	})
}

// The address of a peer is text in every record, whatever writes them.
func TestLoggedAddress(t *testing.T) {
	var log bytes.Buffer
	u := &websocket.Upgrader{
		Handler: func(*websocket.Conn) error { return errors.New("a failure") },
		Config:  websocket.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))},
	}
	b := loopback(t, u, false, 0)
	defer b.stop()
	p := b.peer("its handler fails")
	p.Want("88 02 03f3")
	p.Close()
	if err := u.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), `"remote":"127.0.0.1:`) {
		t.Errorf("logged: %s", &log)
	}
}

// An end of a Pipe that nobody reads is judged as over TCP: what may be there can
// be looked for.
func TestPipeTimeOutsWithoutAReader(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server websocket.Config
		after  time.Duration
		code   websocket.StatusCode
	}{
		{"no first message", websocket.Config{FirstMessageTimeout: 2 * time.Second, PingInterval: -1}, 2125 * time.Millisecond, websocket.StatusPolicyViolation},
		{"no pong", websocket.Config{}, 50 * time.Second, websocket.StatusAbnormalClosure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, _ := websocket.Pipe(&websocket.PipeOptions{
					Server: tt.server,
					Client: websocket.Config{PingInterval: -1},
				})
				// A code that cannot be sent closes nothing.
				var end *websocket.CloseError
				ended := func() bool { return errors.As(server.Close(websocket.StatusNoStatusRcvd, ""), &end) }
				time.Sleep(tt.after - 1)
				synctest.Wait()
				if ended() {
					t.Fatalf("before %v: %v", tt.after, end)
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if !ended() || end.Code != tt.code {
					t.Errorf("after %v: %v, want %d", tt.after, end, tt.code)
				}
				server.CloseNow()
			})
		})
	}
}

// Shutdown that is cut short says so if nothing but handlers is left.
func TestShutdownCountsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
			_ = c.CloseNow()
			<-release
			return nil
		}}
		b := inMemory(t, u)
		defer b.stop()
		p := b.peers(1, "its handler goes on")[0]
		p.WantDrop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var e *websocket.ShutdownError
		if err := u.Shutdown(ctx); !errors.As(err, &e) || e.Cut != 0 || e.Handlers != 1 || !strings.Contains(err.Error(), "handlers still running: 1") {
			t.Errorf("Shutdown: %v", err)
		}
		close(release)
	})
}
