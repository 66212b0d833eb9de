package websocket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

var messageSizes = []int{125, 1 << 10, 64 << 10, 1 << 20}

func sizeName(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprint(n>>20, "MiB")
	case n >= 1<<10:
		return fmt.Sprint(n>>10, "KiB")
	}
	return fmt.Sprint(n, "B")
}

// A mill is a connection whose peer sends the same bytes for ever and takes
// all that is written.
type mill struct {
	block []byte
	next  int
}

func (m *mill) Read(p []byte) (int, error) {
	if len(m.block) == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) {
		k := copy(p[n:], m.block[m.next:])
		m.next = (m.next + k) % len(m.block)
		n += k
	}
	return n, nil
}

func (m *mill) Write(p []byte) (int, error)      { return len(p), nil }
func (m *mill) Close() error                     { return nil }
func (m *mill) LocalAddr() net.Addr              { return nil }
func (m *mill) RemoteAddr() net.Addr             { return nil }
func (m *mill) SetDeadline(time.Time) error      { return nil }
func (m *mill) SetReadDeadline(time.Time) error  { return nil }
func (m *mill) SetWriteDeadline(time.Time) error { return nil }

// clientFrame is a masked frame.
func clientFrame(op opcode, fin bool, payload []byte) []byte {
	h := header{fin: fin, op: op, masked: true, key: 0x3d21fa37, length: int64(len(payload))}
	b := append(appendHeader(nil, h), payload...)
	mask(h.key, b[len(b)-len(payload):])
	return b
}

// milled is a connection on which messages of this size come without end.
func milled(typ MessageType, size int) *Conn {
	frame := clientFrame(opcode(typ), true, bytes.Repeat([]byte{'x'}, size))
	return newConn(&mill{block: frame}, nil, on(Config{ReadLimit: -1, MaxFragments: -1, WriteTimeout: time.Second}), "", nil)
}

// perSize runs a benchmark for every size of messages.
func perSize(b *testing.B, f func(b *testing.B, size int)) {
	for _, size := range messageSizes {
		b.Run(sizeName(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			f(b, size)
		})
	}
}

var background = context.Background()

func BenchmarkRead(b *testing.B) {
	for _, typ := range []MessageType{Binary, Text} {
		b.Run(typ.String(), func(b *testing.B) {
			perSize(b, func(b *testing.B, size int) {
				c := milled(typ, size)
				for b.Loop() {
					if _, p, err := c.Read(background); err != nil || len(p) != size {
						b.Fatal(len(p), err)
					}
				}
			})
		})
	}
}

func BenchmarkReadAppend(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		c := milled(Binary, size)
		dst := make([]byte, 0, size)
		for b.Loop() {
			if _, p, err := c.ReadAppend(background, dst); err != nil || len(p) != size {
				b.Fatal(len(p), err)
			}
		}
	})
}

func BenchmarkMessages(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		left := b.N
		for m, err := range milled(Binary, size).Messages(background) {
			if err != nil || len(m.Data) != size {
				b.Fatal(len(m.Data), err)
			}
			if left--; left <= 0 {
				break
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		c := milled(Binary, size)
		p := make([]byte, 32<<10)
		for b.Loop() {
			_, r, err := c.Reader(background)
			total := 0
			for err == nil {
				var n int
				n, err = r.Read(p)
				total += n
			}
			if err != io.EOF || total != size {
				b.Fatal(total, err)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, typ := range []MessageType{Binary, Text} {
		b.Run(typ.String(), func(b *testing.B) {
			perSize(b, func(b *testing.B, size int) {
				c := milled(typ, 1)
				p := bytes.Repeat([]byte{'x'}, size)
				for b.Loop() {
					if err := c.Write(background, typ, p); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		c := milled(Binary, 1)
		p := make([]byte, min(size, 4<<10))
		for b.Loop() {
			w, err := c.Writer(background, Binary)
			for left := size; left > 0 && err == nil; left -= len(p) {
				_, err = w.Write(p[:min(left, len(p))])
			}
			if err = errors.Join(err, w.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var memorySizes = []int{16, 64, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20}

func BenchmarkMask(b *testing.B) {
	for _, size := range memorySizes {
		b.Run(sizeName(size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			key := maskKey(0x3d21fa37)
			for b.Loop() {
				key = mask(key, p)
			}
		})
	}
}

// BenchmarkCopy is what BenchmarkMask compares with.
func BenchmarkCopy(b *testing.B) {
	for _, size := range memorySizes {
		b.Run(sizeName(size), func(b *testing.B) {
			p, q := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(p, q)
			}
		})
	}
}

func BenchmarkUTF8(b *testing.B) {
	texts := []struct{ name, unit string }{{"ASCII", "0123456789abcdef"}, {"Greek", "κόσμε "}, {"mixed", "naïve — 日本語, OK 😀 "}}
	for _, text := range texts {
		for _, size := range []int{125, 64 << 10, 16 << 20} {
			p := []byte(strings.ToValidUTF8(strings.Repeat(text.unit, size/len(text.unit)+1)[:size], ""))
			b.Run(text.name+"/"+sizeName(size), func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				var u utf8Check
				for b.Loop() {
					if !u.write(p) || !u.complete() {
						b.Fatal("it is text")
					}
				}
			})
			b.Run(text.name+"/"+sizeName(size)+"/unicode", func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				for b.Loop() {
					if !utf8.Valid(p) {
						b.Fatal("it is text")
					}
				}
			})
		}
	}
}

// A landing is a ResponseWriter on a connection that takes all and sends
// nothing.
type landing struct {
	header http.Header
	rw     *bufio.ReadWriter
}

func (l *landing) Header() http.Header         { return l.header }
func (l *landing) Write(p []byte) (int, error) { return len(p), nil }
func (l *landing) WriteHeader(int)             {}
func (l *landing) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return &mill{}, l.rw, nil
}

// BenchmarkUpgrade is a handshake, without net/http's part of it, and the end
// of the connection that it makes.
func BenchmarkUpgrade(b *testing.B) {
	r, err := http.NewRequest("GET", "http://example.com/ws", nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Origin": "https://example.com",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Protocol": "superchat, chat", "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
	} {
		r.Header.Set(name, value)
	}
	l := &landing{header: http.Header{}, rw: bufio.NewReadWriter(bufio.NewReader(new(mill)), bufio.NewWriter(io.Discard))}
	u := &Upgrader{Subprotocols: []string{"chat"}}
	b.ReportAllocs()
	for b.Loop() {
		c, err := u.Upgrade(l, r)
		if err != nil {
			b.Fatal(err)
		}
		c.CloseNow()
	}
}

// echoing serves an echo on a loopback socket, and returns a client's
// connection after its handshake.
func echoing(b *testing.B) (net.Conn, func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan struct{})
	server := &http.Server{Handler: &Upgrader{Handler: func(c *Conn) error {
		defer close(served)
		var p []byte
		for {
			typ, m, err := c.ReadAppend(background, p[:0])
			if err == nil {
				err = c.Write(background, typ, m)
			}
			if err != nil {
				return err
			}
			p = m
		}
	}}}
	go server.Serve(l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := conn.Read(one); err != nil {
			b.Fatal(err)
		}
	}
	return conn, func() {
		conn.Write(clientFrame(opClose, true, []byte{3, 232}))
		io.Copy(io.Discard, conn)
		conn.Close()
		<-served
		server.Close()
	}
}

// BenchmarkEcho sends messages to an echo over loopback TCP, so many at once,
// and waits for their answers.
func BenchmarkEcho(b *testing.B) {
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprint(batch, "atOnce"), func(b *testing.B) {
			for _, size := range []int{125, 1 << 10, 64 << 10} {
				b.Run(sizeName(size), func(b *testing.B) {
					conn, stop := echoing(b)
					defer stop()
					payload := bytes.Repeat([]byte{'x'}, size)
					request := bytes.Repeat(clientFrame(opBinary, true, payload), batch)
					answer := make([]byte, batch*len(append(appendHeader(nil, header{length: int64(size)}), payload...)))
					b.SetBytes(int64(size))
					b.ReportAllocs()
					b.ResetTimer()
					for done := 0; done < b.N; done += batch {
						go conn.Write(request) // both directions can be full
						if _, err := io.ReadFull(conn, answer); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// TestAllocations: what a message costs, apart from the memory it is returned
// in, is nothing; see Read for the exception.
func TestAllocations(t *testing.T) {
	lend := func() {
		for range 20 {
			bufpool.Put(bufpool.Get(1))
		}
	}
	if testing.AllocsPerRun(100, lend) > 0 {
		t.Skip("under the race detector a sync.Pool keeps only some of what it gets")
	}
	p := bytes.Repeat([]byte{'x'}, 1<<10)
	dst := make([]byte, 0, len(p))
	in, out := milled(Text, len(p)), milled(Text, 1)
	tests := []struct {
		name string
		most float64
		call func() error
	}{
		{"Read", 1, func() error { _, _, err := in.Read(background); return err }},
		{"ReadAppend", 0, func() error { _, _, err := in.ReadAppend(background, dst); return err }},
		{"Write", 0, func() error { return out.Write(background, Text, p) }},
	}
	for _, tt := range tests {
		n := testing.AllocsPerRun(1000, func() {
			if err := tt.call(); err != nil {
				t.Fatal(err)
			}
		})
		if n > tt.most {
			t.Errorf("%s allocates %v times, want %v", tt.name, n, tt.most)
		}
	}
}
