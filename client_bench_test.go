package websocket

import (
	"bytes"
	"testing"
	"time"
)

// clientMilled is milled for a client: the messages that come are not masked.
func clientMilled(typ MessageType, size int) *Conn {
	payload := bytes.Repeat([]byte{'x'}, size)
	frame := append(appendHeader(nil, header{fin: true, op: opcode(typ), length: int64(size)}), payload...)
	var t terms
	t.setClient(Config{ReadLimit: -1, MaxFragments: -1, WriteTimeout: time.Second, Overflow: DropNewest})
	c := newConn(&mill{block: frame}, nil, &t, "", nil)
	return c
}

// BenchmarkClientWrite compares what a client writes with what a server does.
func BenchmarkClientWrite(b *testing.B) {
	for _, side := range []struct {
		name string
		conn func(MessageType, int) *Conn
	}{{"server", milled}, {"client", clientMilled}} {
		b.Run(side.name, func(b *testing.B) {
			perSize(b, func(b *testing.B, size int) {
				c := side.conn(Binary, 1)
				p := bytes.Repeat([]byte{'x'}, size)
				for b.Loop() {
					if err := c.Write(background, Binary, p); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkClientRead(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		c := clientMilled(Binary, size)
		dst := make([]byte, 0, size)
		for b.Loop() {
			if _, p, err := c.ReadAppend(background, dst); err != nil || len(p) != size {
				b.Fatal(len(p), err)
			}
		}
	})
}

func BenchmarkClientSend(b *testing.B) {
	perSize(b, func(b *testing.B, size int) {
		c := clientMilled(Binary, 1)
		p := bytes.Repeat([]byte{'x'}, size)
		for b.Loop() {
			if err := c.Send(Binary, p); err != nil && err != ErrQueueFull {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMaskKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		randomKey()
	}
}
