package websocket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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
