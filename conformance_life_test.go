package websocket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// K-08, K-23: whatever ends the connection, one Close frame at most is on the
// wire (the peer sees to that), every call of every method returns the same
// error from then on, and nothing is sent any more.
func TestK23OneStableError(t *testing.T) {
	for _, how := range ends {
		t.Run(how.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("K-23: every later call returns one stable error")
				pending := readingOn(c)
				how.end(p, c)
				first := <-pending
				synctest.Wait()
				ctx := context.Background()
				calls := map[string]func() error{
					"Read":       func() error { _, _, err := c.Read(ctx); return err },
					"ReadAppend": func() error { _, _, err := c.ReadAppend(ctx, nil); return err },
					"Reader":     func() error { _, _, err := c.Reader(ctx); return err },
					"Write":      func() error { return c.Write(ctx, websocket.Text, []byte("late")) },
					"Writer": func() error {
						w, err := c.Writer(ctx, websocket.Text)
						if err != nil {
							return err
						}
						if _, err := io.WriteString(w, "late"); err != nil {
							return err
						}
						return w.Close()
					},
					"Ping": func() error { _, err := c.Ping(ctx); return err },
				}
				for range 2 {
					for name, call := range calls {
						err := call()
						closed := wantClosed(t, err, how.code, how.remote)
						if want := wantClosed(t, first, how.code, how.remote); closed.Reason != want.Reason || err.Error() != first.Error() {
							t.Errorf("%s returns %v, the read before it %v", name, err, first)
						}
						if ended := how.name == "Close" || how.name == "CloseNow"; errors.Is(err, net.ErrClosed) != ended {
							t.Errorf("%s: errors.Is(%v, net.ErrClosed) is %v", name, err, !ended)
						}
					}
					c.Close(1000, "again") // K-22: safe, and without any effect
					c.CloseNow()
				}
				synctest.Wait()
				if unread := p.Conn().(*memconn.Conn).Unread(); unread > 0 {
					t.Errorf("%d bytes were sent after the end", unread)
				}
				p.Close()
				<-c.Context().Done()
				wantClosed(t, context.Cause(c.Context()), how.code, how.remote)
			})
		})
	}
}

// K-08, K-22: any number of ends at the same time are one end.
func TestK22CloseConcurrently(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("K-22: closing twice is closing once")
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { c.Close(websocket.StatusCode(4000+i), "") })
			wg.Go(func() { c.Read(context.Background()) })
		}
		p.Write("89 81 z 31") // may or may not be answered before the Close
		f, ok := p.Next()
		if ok && f.Op == 0xa {
			f, ok = p.Next()
		}
		if code := append(bytes.Clone(f.Payload), 0, 0); ok && (f.Op != 8 || len(f.Payload) != 2 ||
			binary.BigEndian.Uint16(code) < 4000 || binary.BigEndian.Uint16(code) > 4099) {
			t.Errorf("received %v, want a Close frame of one of the callers", f)
		}
		p.Write("88 80 z")
		p.WantEOF()
		wg.Wait()
	})
	for _, second := range ends[:4] {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("K-08: " + second.name + " while the server closes: one Close frame")
			c.Close(1001, "")
			p.Want("88 02 03e9")
			switch second.code {
			case 1006:
				p.Fin()
			case 1002:
				p.Write("c1 80 z")
			default:
				p.Write("88 80 z")
			}
			p.WantEOF()
			<-c.Context().Done()
			wantClosed(t, context.Cause(c.Context()), 1001, false)
		})
	}
}

// K-12: after its own Close the server sends nothing, whoever asks for it.
func TestK12NothingAfterClose(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("K-12: nothing follows a Close frame")
		c.Close(1001, "")
		p.Want("88 02 03e9")
		p.Write("89 81 z 31")
		for _, err := range []error{
			c.Write(context.Background(), websocket.Binary, []byte("late")),
			func() error { _, err := c.Ping(context.Background()); return err }(),
			c.Close(1000, ""),
		} {
			if err != nil {
				wantClosed(t, err, 1001, false)
			}
		}
		p.WantNothing()
		p.Write("88 82 z 03e8")
		p.WantEOF()
	})
}

// K-13, K-14, L-06: Close returns at once and the wait for the peer is in
// the background, with an exact end.
func TestK14CloseTimeout(t *testing.T) {
	for _, test := range []struct {
		name            string
		configured, got time.Duration
	}{
		{"the default is 5 s", 0, 5 * time.Second},
		{"as configured", 3 * time.Second, 3 * time.Second},
		{"negative: it does not wait", -1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{CloseTimeout: test.configured}, func(t *testing.T, l *lab) {
				p, c := l.open("K-14: the wait for the peer's Close is bounded")
				start := time.Now()
				if err := c.Close(1001, "bye"); err != nil {
					t.Errorf("Close: %v", err)
				}
				wantElapsed(t, start, 0)
				p.Want("88 05 03e9 627965")
				p.WantEOF()
				wantElapsed(t, start, test.got)
				p.Close()
				<-c.Context().Done()
				wantElapsed(t, start, test.got)
				wantClosed(t, context.Cause(c.Context()), 1001, false)
			})
		})
	}
	t.Run("other frames do not prolong it", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("K-14: what the peer sends instead of a Close does not prolong the wait")
			start := time.Now()
			c.Close(1001, "")
			p.Want("88 02 03e9")
			for range 4 {
				time.Sleep(time.Second)
				p.Write("81 82 z 6869 89 80 z")
			}
			p.WantEOF()
			wantElapsed(t, start, 5*time.Second)
		})
	})
	t.Run("the peer's Close ends it", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("K-13: the peer's Close ends the wait")
			start := time.Now()
			c.Close(1001, "")
			p.Want("88 02 03e9")
			time.Sleep(2 * time.Second)
			p.Write("81 82 z 6869 88 82 z 03e9")
			p.WantEOF()
			wantElapsed(t, start, 2*time.Second)
		})
	})
}

// K-15: each side's calls return its own code.
func TestK15SimultaneousClose(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("K-15: two Close frames cross")
		end := readingOn(c)
		go c.Close(1001, "")
		p.Want("88 02 03e9")
		p.Write("88 82 z 03e8")
		p.WantEOF()
		wantClosed(t, <-end, 1001, false)
	})
}

// K-16: an illegal frame in the wait ends it, at once.
func TestK16ViolationInTheWait(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("K-16: no second Close for a violation after the first")
		start := time.Now()
		c.Close(1001, "")
		p.Want("88 02 03e9")
		time.Sleep(time.Second)
		p.Write("a1 80 z")
		p.WantEOF()
		wantElapsed(t, start, time.Second)
	})
}

// K-18: what the transport did is the cause underneath.
func TestK18Lost(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(p *conformance.Peer)
		want error
	}{
		{"end of stream", func(p *conformance.Peer) { p.Fin() }, io.ErrUnexpectedEOF},
		{"end of stream in a frame", func(p *conformance.Peer) { p.Write("81 85 z 61"); p.Fin() }, io.ErrUnexpectedEOF},
		{"reset", func(p *conformance.Peer) { p.Conn().(*memconn.Conn).Reset() }, syscall.ECONNRESET},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("K-18: a lost connection is 1006")
				end := readingOn(c)
				test.lose(p)
				err := <-end
				wantClosed(t, err, 1006, true)
				if !errors.Is(err, test.want) || errors.Is(err, net.ErrClosed) {
					t.Errorf("the cause of %v is not %v", err, test.want)
				}
			})
		})
	}
}

// K-19, K-20: what the API refuses does not reach the wire, and the
// connection goes on.
func TestK19K20RefusedCloses(t *testing.T) {
	for _, test := range []struct {
		code   websocket.StatusCode
		reason string
	}{
		{0, ""}, {999, ""}, {1004, ""}, {1005, ""}, {1006, ""}, {1010, ""}, {1015, ""}, {1016, ""}, {2999, ""}, {5000, ""}, {65535, ""},
		{1000, strings.Repeat("*", 124)}, {1000, strings.Repeat("é", 62)}, {1000, "\xff"}, {1000, "abc\xe2\x82"},
	} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open(fmt.Sprintf("K-19, K-20: Close(%d, %.10q…) is refused", test.code, test.reason))
			end := readingOn(c)
			if err := c.Close(test.code, test.reason); err == nil {
				t.Errorf("Close(%d, %q) returned no error", test.code, test.reason)
			}
			p.WantNothing()
			p.WantOpen()
			p.Write("88 82 z 03e8")
			p.WantClean("03e8")
			wantClosed(t, <-end, 1000, true)
		})
	}
	for _, code := range []websocket.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("K-20: 123 bytes of reason are allowed")
			if err := c.Close(code, strings.Repeat("é", 61)+"*"); err != nil {
				t.Errorf("Close(%d): %v", code, err)
			}
			p.Want(fmt.Sprintf("88 7d %04x %s 2a", uint16(code), strings.Repeat("c3a9", 61)))
			p.Write("88 80 z")
			p.WantEOF()
		})
	}
}

// K-19, K-20, K-24: what a handler returns obeys the same rules, whatever it
// contains.
func TestK24WhatHandlersReturn(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		code   int
		reason string
	}{
		{"an error", errors.New("secret"), 1011, ""},
		{"a wrapped CloseError", fmt.Errorf("wrapped: %w", &websocket.CloseError{Code: 4001, Reason: "enough"}), 4001, "enough"},
		{"a code that is never sent", &websocket.CloseError{Code: 1006, Reason: "secret"}, 1011, ""},
		{"a code for clients", &websocket.CloseError{Code: 1010, Reason: "secret"}, 1011, ""},
		{"a long reason", &websocket.CloseError{Code: 1008, Reason: strings.Repeat("é", 100)}, 1008, strings.Repeat("é", 61)},
		{"no UTF-8", &websocket.CloseError{Code: 1008, Reason: "a\xff"}, 1008, "any"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := inMemory(t, &websocket.Upgrader{
					Handler: func(*websocket.Conn) error { return test.err },
					Config:  websocket.Config{Logger: slog.New(slog.DiscardHandler)},
				})
				defer b.stop()
				p := b.peer("K-24: a handler's error is a Close frame")
				reason := p.WantFail(test.code)
				p.Close()
				if test.reason != "any" && reason != test.reason || strings.Contains(reason, "secret") {
					t.Errorf("the reason is %q, want %q", reason, test.reason)
				}
			})
		})
	}
}

// K-24, X-07: a handler that panics ends its own connection and is reported;
// one that leaves by runtime.Goexit ends it, too.
func TestK24Panics(t *testing.T) {
	for _, test := range []struct {
		name  string
		leave func()
		log   string
	}{
		{"panic", func() { panic("the value of the panic") }, "the value of the panic"},
		{"panic(nil)", func() { panic(nil) }, "nil"},
		{"http.ErrAbortHandler", func() { panic(http.ErrAbortHandler) }, ""},
		{"runtime.Goexit", runtime.Goexit, "any"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				b := inMemory(t, &websocket.Upgrader{
					Handler: func(c *websocket.Conn) error {
						for {
							typ, data, err := c.Read(context.Background())
							if err != nil {
								return err
							}
							if typ == websocket.Binary {
								test.leave()
							}
							c.Write(context.Background(), typ, data)
						}
					},
					Config: websocket.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))},
				})
				defer b.stop()
				other := b.peer("K-24: the panic of one handler leaves the others alone")
				p := b.peer("K-24: a handler that panics is 1011")
				p.Write("82 80 z")
				reason := p.WantFail(1011)
				p.Close()
				synctest.Wait()
				if strings.Contains(reason, "value") {
					t.Errorf("the peer is told %q", reason)
				}
				if out := logged.String(); test.log != "any" && (test.log == "") != (out == "") || !strings.Contains(out, test.log) && test.log != "any" {
					t.Errorf("logged %q, want %q in it", out, test.log)
				}
				other.Write("81 81 z 61")
				other.Want("81 01 61")
				other.Close()
			})
		})
	}
}

// K-17, L-08: after the end the server reads on, but not for ever.
func TestL08Drain(t *testing.T) {
	for _, how := range ends[:3] {
		t.Run(how.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("L-08: a peer that keeps its side open is waited for one second")
				end := readingOn(c)
				start := time.Now()
				how.end(p, c)
				<-end
				wantElapsed(t, start, 0)
				<-c.Context().Done()
				wantElapsed(t, start, time.Second)
			})
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("L-08: of what a peer goes on sending, 4 MiB are read")
				end := readingOn(c)
				start := time.Now()
				how.end(p, c)
				<-end
				junk, total := make([]byte, 64<<10), 0
				for total <= 16<<20 {
					n, err := p.Conn().Write(junk)
					total += n
					if err != nil {
						break
					}
				}
				const sockets = 256 << 10 // what may lie in buffers on the way
				if total < 4<<20 || total > 4<<20+sockets {
					t.Errorf("%d bytes were taken, want 4 MiB", total)
				}
				<-c.Context().Done()
				wantElapsed(t, start, 0)
			})
		})
	}
}

// B-06: what browsers do every day is no news.
func TestB06NothingLogged(t *testing.T) {
	for _, how := range ends {
		var logged bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelInfo}))
		inLab(t, websocket.Config{Logger: logger}, func(t *testing.T, l *lab) {
			p, c := l.open("B-06: ends are no errors of the server")
			end := readingOn(c)
			how.end(p, c)
			<-end
			p.Close()
			<-c.Context().Done()
		})
		if logged.Len() > 0 {
			t.Errorf("%s: logged %s", how.name, &logged)
		}
	}
}

// B-03: a browser that asked for a subprotocol leaves when none was agreed,
// without a word.
func TestB03BrowserLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := make(chan *run, 1)
		b := inMemory(t, upgrader(conformance.Row{}, readings[0], runs))
		defer b.stop()
		p := b.peerUnopened("B-03: to leave right after the 101 is a lost connection")
		p.Handshake("Origin: http://example.com", "Sec-WebSocket-Protocol: foo")
		p.Close()
		r := <-runs
		wantClosed(t, r.err, 1006, true)
		if got := r.conn.Subprotocol(); got != "" {
			t.Errorf("the subprotocol is %q", got)
		}
	})
}

// S-10: what a peer says is quoted where people read it.
func TestS10ReasonsAreQuoted(t *testing.T) {
	const evil = "a\n\x1b[31mred\r\x00\u202e"
	var logged bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	inLab(t, websocket.Config{Logger: logger}, func(t *testing.T, l *lab) {
		p, c := l.open("S-10: a reason does not write into logs")
		end := readingOn(c)
		p.Write(fmt.Sprintf("88 %02x z 03e8 %x", 0x80|2+len(evil), evil))
		p.WantClean("03e8")
		err := <-end
		if closed := wantClosed(t, err, 1000, true); closed.Reason != evil {
			t.Errorf("the reason is %q, want %q", closed.Reason, evil)
		}
		if text := err.Error(); strings.ContainsAny(text, "\n\r\x1b\x00\u202e") {
			t.Errorf("the error's text contains control characters: %q", text)
		}
	})
}

// the application reads the code that was sent, and the peer
// does not read its own bytes.
func TestX18ReasonsOfTheLibrary(t *testing.T) {
	marker := fmt.Sprintf("%x", "zq7xw")
	for in, code := range map[string]websocket.StatusCode{
		"81 86 z " + marker + "ff":           1007,
		"88 88 z 03e8 " + marker + "ff":      1007,
		"88 87 z 0000 " + marker:             1002,
		"81 05 " + marker:                    1002,
		"89 fe 007e z " + marker:             1002,
		"80 85 z " + marker:                  1002,
		"83 85 z " + marker:                  1002,
		"82 ff 0000000000200000 z " + marker: 1009,
	} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("X-18: a reason of the library contains nothing that the peer has sent")
			end := readingOn(c)
			p.Write(in)
			reason := p.WantFail(int(code))
			closed := wantClosed(t, <-end, code, false)
			if strings.Contains(reason, "zq7xw") || strings.Contains(closed.Error(), "zq7xw") {
				t.Errorf("%s: the reason is %q, the error %v", in, reason, closed)
			}
		})
	}
}

// K-21: a Close waits for what was accepted before it.
func TestK21CloseIsLast(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		l.tune = func(c *memconn.Conn) { c.SetBuffer(1 << 10) }
		p, c := l.open("K-21: a Close does not overtake or split a message")
		readingOn(c)
		go c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte("a"), 1<<20))
		synctest.Wait()
		start := time.Now()
		if err := c.Close(1000, ""); err != nil {
			t.Errorf("Close: %v", err)
		}
		wantElapsed(t, start, 0)
		p.Want("82 7f 0000000000100000 rep(61,1048576) 88 02 03e8")
		p.Write("88 82 z 03e8")
		p.WantEOF()
	})
}
