package inbuf

import (
	"bytes"
	"math"
	"testing"
)

func TestMessageMemory(t *testing.T) {
	// Memory grows with what has come, to at most four times that, whatever
	// was announced.
	for _, own := range []bool{false, true} {
		for _, chunk := range []int{1, 100, 511, 4096, 32 << 10} {
			for _, announced := range []int64{-1, 0, 1 << 20, math.MaxInt64 / 2} {
				m := &Message{}
				var want []byte
				check := func() {
					t.Helper()
					if limit := max(4*m.Len(), 512); cap(m.buf) > limit {
						t.Fatalf("own %v, %d bytes of %d announced: room for %d, want at most %d", own, m.Len(), announced, cap(m.buf), limit)
					}
				}
				for i := range 40 {
					left := announced
					if announced >= 0 {
						left = max(announced-int64(len(want)+chunk), 0)
					}
					p := bytes.Repeat([]byte{byte(i)}, chunk)
					m.Append(p, left, own)
					want = append(want, p...)
					check()
					if room := m.Room(max(left, 0), i%2 == 0, own); room != nil {
						check()
						if len(room) < Direct || int64(len(room)) > left {
							t.Fatalf("room for %d, %d are left", len(room), left)
						}
						n := copy(room, p[:min(chunk, len(room))])
						m.Extend(n)
						want = append(want, p[:n]...)
					}
					if i == 20 {
						m.Keep() // as when the call is cancelled
					}
				}
				var dst []byte
				if !own {
					dst = []byte("head")
				}
				if got := m.Take(dst); !bytes.Equal(got, append(dst, want...)) {
					t.Fatalf("own %v, chunk %d: the message is not what was put in", own, chunk)
				}
				if m.buf != nil || m.lent != nil {
					t.Fatal("Take keeps memory")
				}
			}
		}
	}
}

func TestMessageInPlace(t *testing.T) {
	// A message that fits behind dst grows there, and leaves it when the
	// call ends before the message.
	dst := make([]byte, 3, 64)
	copy(dst, "abc")
	m := &Message{}
	m.At(dst, 61)
	m.Append([]byte("defg"), 57, false)
	if got := m.Take(dst); string(got) != "abcdefg" || &got[0] != &dst[0] {
		t.Errorf("in place: %q, moved: %v", got, &got[0] != &dst[0])
	}

	m.At(dst, 62)
	if m.atDst {
		t.Error("62 bytes do not fit into 61")
	}

	m.At(dst, 10)
	m.Append([]byte("hij"), 7, false)
	m.Keep()
	copy(dst[:cap(dst)], bytes.Repeat([]byte{'x'}, cap(dst))) // the caller's again
	if m.Len() != 3 || m.atDst {
		t.Errorf("kept %d bytes, at dst %v", m.Len(), m.atDst)
	}
	if got := m.Take([]byte("_")); string(got) != "_hij" {
		t.Errorf("taken %q", got)
	}

	m.At(dst, 10)
	m.Keep() // nothing has come
	if m.atDst || m.buf != nil || m.lent != nil {
		t.Errorf("kept %+v of nothing", m)
	}
}

func TestMessageRead(t *testing.T) {
	m := &Message{}
	m.Append([]byte("abcdef"), -1, false)
	p := make([]byte, 4)
	if n := m.Read(p); string(p[:n]) != "abcd" || m.Len() != 2 {
		t.Errorf("%q, %d left", p[:n], m.Len())
	}
	if n := m.Read(p); string(p[:n]) != "ef" || m.Len() != 0 || m.lent != nil {
		t.Errorf("%q, %d left, lent %v", p[:n], m.Len(), m.lent)
	}
}

// Above what the pool lends, too, growing copies each byte a few times only.
func TestGrowthIsGeometric(t *testing.T) {
	var m Message
	defer m.Release()
	piece := make([]byte, 32<<10)
	moved := 0
	for m.Len() < 40<<20 {
		before := cap(m.buf)
		m.Append(piece, -1, true)
		if cap(m.buf) != before {
			moved++
		}
	}
	if moved > 12 {
		t.Errorf("moved %d times on the way to %d bytes", moved, m.Len())
	}
}
