package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// A Reader's ctx bounds its message: once that has ended, this Reader errors
// for ever and the next call, of either kind, skips the rest. A call of Reader
// that was cancelled before it gave a message away has lost none.
func TestReaderCancelledThenRead(t *testing.T) {
	stream, want, pongs := script()
	nexts := []struct {
		name string
		next func(context.Context, *websocket.Conn) message
	}{{"Read", readOne}, {"Reader", readStream}}
	for _, next := range nexts {
		t.Run(next.name, func(t *testing.T) {
			for cut := range len(stream) + 1 {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c := l.open(fmt.Sprintf("a Reader cancelled after %d bytes takes its message with it", cut))
					left := want
					var reader io.Reader
					var got string
					p.WritePieces(stream[:cut])
					ctx, cancel := context.WithCancel(context.Background())
					result := async(func() error {
						for {
							_, r, err := c.Reader(ctx)
							if err != nil {
								return err
							}
							reader, left = r, left[1:]
							data, err := io.ReadAll(r)
							got = string(data)
							if err != nil {
								return err
							}
							reader = nil
						}
					})
					synctest.Wait()
					cancel()
					wantContextError(t, "Reader", done(t, "Reader", result), ctx)
					if reader != nil && !strings.HasPrefix(want[len(want)-len(left)-1].data, got) {
						t.Errorf("cut %d: streamed %q", cut, got)
					}
					p.WritePieces(stream[cut:])
					synctest.Wait()
					if reader != nil {
						for range 2 {
							n, err := reader.Read(make([]byte, 64))
							if n != 0 {
								t.Errorf("cut %d: the reader gives %d bytes after its ctx has ended", cut, n)
							}
							wantContextError(t, "the reader", err, ctx)
						}
					}
					for _, want := range left {
						m := done(t, next.name, async(func() message { return next.next(context.Background(), c) }))
						if m != want {
							t.Fatalf("cut %d: %s gives %v, %q, %v; want %q", cut, next.name, m.typ, m.data, m.err, want.data)
						}
					}
					if reader != nil {
						if n, err := reader.Read(make([]byte, 64)); n != 0 || err == nil || err == io.EOF {
							t.Errorf("cut %d: the reader of before gives %d bytes, %v", cut, n, err)
						}
					}
					wantNoneLeft(t, c)
					p.WantBytes(pongs)
				})
			}
		})
	}
}

// Plain io.EOF only after a valid FIN: what is cut, in whichever way, must not
// look whole to io.ReadAll.
func TestReaderEOF(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("a reader ends with io.EOF when its message has")
		for _, whole := range []string{"81 80 z", "81 81 z 61", "01 80 z 00 80 z 80 80 z", "01 81 z 61 80 80 z"} {
			p.Write(whole)
			_, r, err := c.Reader(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); err != nil || len(data) > 1 {
				t.Errorf("%s: %q, %v", whole, data, err)
			}
			for range 2 {
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("%s: after the end %d, %v", whole, n, err)
				}
			}
		}
		wantOpen(t, p, c)
	})
	for _, test := range []struct {
		name, in string
		fin      bool
		code     websocket.StatusCode
		remote   bool
	}{
		{"the peer closes", "88 82 z 03e8", false, 1000, true},
		{"the stream ends", "", true, 1006, true},
		{"the stream ends in a frame", "00 82 z 61", true, 1006, true},
		{"the stream ends in the last frame", "80 82 z 61", true, 1006, true},
		{"a rule is broken", "81 80 z", false, 1002, false},
		{"the last byte is none of UTF-8", "80 81 z ff", false, 1007, false},
		{"the last character is half", "80 81 z e2", false, 1007, false},
		{"the limit is passed", "80 fe 0400 z", false, 1009, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{ReadLimit: 1000}, func(t *testing.T, l *lab) {
				p, c := l.open("a reader of a message that has not ended does not return io.EOF")
				p.Write("01 81 z 61")
				_, r, err := c.Reader(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				result := async(func() error { _, err := io.ReadAll(r); return err })
				wantPending(t, "the reader", result)
				if test.in != "" {
					p.Write(test.in)
				}
				if test.fin {
					p.Fin()
				}
				err = done(t, "the reader", result)
				first := wantClosed(t, err, test.code, test.remote)
				if test.fin && (err == io.EOF || errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF)) {
					t.Errorf("the error is %v", err)
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, first) {
					t.Errorf("then %d, %v", n, err)
				}
			})
		})
	}
}

// A Reader that is not the latest errors, and never yields another message's
// bytes, even when the call that replaced it was cancelled itself.
func TestReaderStale(t *testing.T) {
	ctx := context.Background()
	wantStale := func(t *testing.T, r io.Reader) {
		t.Helper()
		for range 2 {
			if n, err := r.Read(make([]byte, 64)); n != 0 || !errors.Is(err, websocket.ErrStaleReader) {
				t.Errorf("the reader of before gives %d bytes, %v", n, err)
			}
		}
	}
	for _, how := range wholeReads {
		t.Run("by "+how.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("a later call takes the connection over")
				p.Write("02 83 z 616161")
				_, r, err := c.Reader(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
					t.Fatal(err)
				}
				short, cancel := context.WithCancel(ctx)
				result := async(func() message { return how.read(t, short, c) })
				wantPending(t, "the read", result)
				cancel()
				wantContextError(t, "the read", done(t, "the read", result).err, short)
				wantStale(t, r)
				p.Write("00 83 z 626262 89 80 z 80 81 z 63 81 82 z 6465 82 81 z 66")
				m := done(t, "the read", async(func() message { return how.read(t, ctx, c) }))
				if m != (message{websocket.Text, "de", nil}) {
					t.Errorf("the next message is %v, %q, %v", m.typ, m.data, m.err)
				}
				wantStale(t, r)
				wantMessage(t, c, websocket.Binary, "f")
				p.Want("8a 00")
			})
		})
	}
	t.Run("by a reader", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("only the latest reader reads")
			p.Write("81 83 z 616263 81 83 z 646566 81 83 z 676869")
			var readers []io.Reader
			for range 3 {
				_, r, err := c.Reader(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := r.Read(make([]byte, 1)); n != 1 || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				readers = append(readers, r)
			}
			wantStale(t, readers[0])
			wantStale(t, readers[1])
			if rest, err := io.ReadAll(readers[2]); string(rest) != "hi" || err != nil {
				t.Errorf("the latest reader gives %q, %v", rest, err)
			}
		})
	})
	t.Run("what is discarded has its rules", func(t *testing.T) {
		inLab(t, websocket.Config{ReadLimit: 16}, func(t *testing.T, l *lab) {
			p, c := l.open("the limit holds for what is discarded, too")
			p.Write("02 8a z rep(61,10)")
			if _, _, err := c.Reader(ctx); err != nil {
				t.Fatal(err)
			}
			result := async(func() message { return readOne(ctx, c) })
			wantPending(t, "Read", result)
			p.Write("80 87 z")
			wantClosed(t, done(t, "Read", result).err, 1009, false)
			p.WantFail(1009)
		})
	})
}

// A Reader whose ctx ended while nobody was in its Read errors all the same,
// though all of the message is there.
func TestReaderCancelledBetweenReads(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("ctx bounds the message of a reader")
		p.Write("81 83 z 616263 81 81 z 64")
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("too long"))
		defer cancel()
		_, r, err := c.Reader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		<-ctx.Done()
		for range 2 {
			n, err := r.Read(make([]byte, 1))
			if n != 0 {
				t.Errorf("%d bytes after the end of ctx", n)
			}
			wantContextError(t, "the reader", err, ctx)
		}
		wantMessage(t, c, websocket.Text, "d")
	})
}

// What Reader left of a message that has ended, or all of it, is no part of the
// next one, whose beginning then is what Ping and CloseRead come to.
func TestNextAfterWhatReaderLeft(t *testing.T) {
	tests := []struct {
		name       string
		size, read int
		compressed bool
	}{
		{"empty", 0, 0, false},
		{"empty, compressed", 0, 0, true},
		{"unread", 100, 0, false},
		{"some", 100, 50, false},
		{"all but the end", 100, 100, false},
		{"unread, compressed", 300, 0, true},
		{"some, compressed", 1000, 10, true},
		{"all but the end, compressed", 1000, 1000, true},
		{"more than is decompressed at once", 200000, 20000, true},
	}
	for _, tt := range tests {
		for _, next := range []string{"Ping", "CloseRead"} {
			synctest.Test(t, func(t *testing.T) {
				cfg := websocket.Config{Compression: websocket.Compression{Enable: tt.compressed, Threshold: -1}}
				server, client := websocket.Pipe(&websocket.PipeOptions{Server: cfg, Client: cfg})
				defer client.CloseNow()
				defer server.CloseNow()
				ctx := context.Background()
				for _, p := range [][]byte{make([]byte, tt.size), []byte("next")} {
					if err := client.Write(ctx, websocket.Binary, p); err != nil {
						t.Fatal(err)
					}
				}
				_, r, err := server.Reader(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for n := 0; n < tt.read; {
					m, err := r.Read(make([]byte, tt.read-n))
					if n += m; err != nil && n < tt.read {
						t.Fatal(err)
					}
				}
				if next == "Ping" {
					if _, err := server.Ping(ctx); err != websocket.ErrUnreadMessage {
						t.Errorf("%s: Ping: %v", tt.name, err)
					}
					typ, p, err := server.Read(ctx)
					if err != nil || typ != websocket.Binary || string(p) != "next" {
						t.Errorf("%s: then Read: %v, %.20q, %v", tt.name, typ, p, err)
					}
					return
				}
				server.CloseRead()
				_, _, err = client.Read(ctx)
				e, ok := err.(*websocket.CloseError)
				if !ok || e.Code != websocket.StatusUnsupportedData {
					t.Errorf("%s: CloseRead: the client hears %v", tt.name, err)
				}
			})
		}
	}
}
