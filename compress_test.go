package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/httpfield"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// squeezed runs f with both ends of a connection that compresses as the two
// sides agree on.
func squeezed(t *testing.T, server, client Config, f func(t *testing.T, s, c *Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, c := Pipe(&PipeOptions{Server: server, Client: client})
		f(t, s, c)
		s.CloseNow()
		c.CloseNow()
		<-s.Context().Done()
		<-c.Context().Done()
	})
}

var _ = []any{bytes.NewReader, context.Background, fmt.Sprint, io.EOF, rand.N[int], strings.Repeat, time.Second, httpfield.Elements, memconn.Pair}

func TestCompressedBothWays(t *testing.T) {
	for _, cfg := range []Compression{
		{Enable: true},
		{Enable: true, Threshold: -1},
		{Enable: true, Threshold: -1, ServerNoContextTakeover: true, ClientNoContextTakeover: true},
		{Enable: true, Threshold: -1, ServerWindowBits: 8, ClientWindowBits: 8},
		{Enable: true, Threshold: -1, ServerWindowBits: 15, ClientWindowBits: 15, Better: true},
	} {
		t.Run(fmt.Sprintf("%+v", cfg), func(t *testing.T) {
			all := Config{Compression: cfg, ReadLimit: 8 << 20}
			squeezed(t, all, all, func(t *testing.T, s, c *Conn) {
				if s.deflate == nil || c.deflate == nil {
					t.Fatal("compression was not agreed on")
				}
				ctx := t.Context()
				rng := rand.New(rand.NewPCG(1, 2))
				text := []byte(strings.Repeat(`{"name":"sockeye","kind":"salmon","n":12345}, `, 1<<15))
				noise := make([]byte, 1<<20)
				for i := range noise {
					noise[i] = byte(rng.Uint32())
				}
				for i := range 200 {
					from, to := s, c
					if rng.IntN(2) == 0 {
						from, to = c, s
					}
					size := min(1<<rng.IntN(21), 1+rng.IntN(1<<20))
					p := text[rng.IntN(1000):][:size]
					typ := Text
					if rng.IntN(4) == 0 {
						typ, p = Binary, noise[:size]
					}
					sent := make(chan error, 1)
					go func() {
						switch rng := rng.IntN(5); rng {
						case 0:
							w, err := from.Writer(ctx, typ)
							if err == nil {
								_, err = w.Write(p[:size/2])
							}
							if err == nil {
								_, err = w.Write(p[size/2:])
							}
							if err == nil {
								err = w.Close()
							}
							sent <- err
						case 1:
							// The peer may have read the message before this one while
							// its writer has not got round to saying so, and Send does
							// not wait for room.
							synctest.Wait()
							sent <- from.Send(typ, p)
						case 2:
							synctest.Wait()
							m, err := NewPrepared(typ, p)
							if err == nil {
								err = from.SendPrepared(m)
							}
							sent <- err
						case 3:
							sent <- from.Write(ctx, typ.Plain(), p)
						default:
							sent <- from.Write(ctx, typ, p)
						}
					}()
					var got []byte
					var gotType MessageType
					var err error
					if i%3 == 0 {
						var r io.Reader
						if gotType, r, err = to.Reader(ctx); err == nil {
							got, err = io.ReadAll(r)
						}
					} else {
						gotType, got, err = to.Read(ctx)
					}
					if err != nil || gotType != typ || !bytes.Equal(got, p) {
						t.Fatalf("message %d of %d bytes: %v, %v, %d bytes", i, size, err, gotType, len(got))
					}
					if err := <-sent; err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// What runs aside returns, panics and ends as if it had been called.
func TestAside(t *testing.T) {
	ran := false
	if aside(func() { ran = true }); !ran {
		t.Error("not run")
	}
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("panicked with %v", v)
			}
		}()
		aside(func() { panic("boom") })
		t.Error("no panic")
	}()
	ended := make(chan bool)
	go func() {
		defer close(ended)
		aside(runtime.Goexit)
		t.Error("no Goexit")
	}()
	<-ended
}

// A lull is when there was no message in this tick of the clock nor in the one
// before, and a message ends it once.
func TestLull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := Pipe(nil)
		defer func() { s.CloseNow(); c.CloseNow(); <-s.Context().Done(); <-c.Context().Done() }()
		var l lull
		for _, message := range []struct {
			after time.Duration
			lull  bool
		}{{0, true}, {0, false}, {tick, false}, {tick, false}, {2 * tick, true}, {0, false}, {time.Hour, true}} {
			time.Sleep(message.after)
			synctest.Wait()
			if got := s.afterLull(&l); got != message.lull {
				t.Errorf("after %v: %v", message.after, got)
			}
		}
		alone := newConn(&mill{}, nil, on(Config{}), "", nil)
		if alone.afterLull(new(lull)) {
			t.Error("a connection without a clock knows of no lull")
		}
	})
}

// A message comes and goes whole after a lull as without one, by every way to read,
// and what comes behind it too.
func TestAfterLull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Compression: Compression{Enable: true}, MessageTimeout: -1}
		s, c := Pipe(&PipeOptions{Server: cfg, Client: cfg})
		defer func() { s.CloseNow(); c.CloseNow(); <-s.Context().Done(); <-c.Context().Done() }()
		text := bytes.Repeat(someText, 3000/len(someText))
		for i := range 10 {
			time.Sleep(time.Duration(i%3) * time.Second)
			for range 3 {
				if err := c.Write(background, Text, text[i:]); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(background, time.Minute)
			defer cancel()
			if _, p, err := s.Read(background); err != nil || !bytes.Equal(p, text[i:]) {
				t.Fatal(len(p), err)
			}
			if _, p, err := s.ReadAppend(ctx, []byte("x")); err != nil || !bytes.Equal(p[1:], text[i:]) {
				t.Fatal(len(p), err)
			}
			_, r, err := s.Reader(background)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := io.ReadAll(r); err != nil || !bytes.Equal(p, text[i:]) {
				t.Fatal(len(p), err)
			}
		}
		// What is wrong is judged all the same.
		time.Sleep(time.Hour)
		c.t.Write(sealed(0xc1, "\xff\xff"))
		var e *CloseError
		if _, _, err := s.Read(background); !errors.As(err, &e) || e.Code != StatusInvalidFramePayloadData {
			t.Errorf("corrupt data: %v", err)
		}
		if err := s.Write(background, Text, text); err == nil {
			t.Error("a write after the end")
		}
	})
}
