package memconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errBoom = errors.New("boom")

func TestKeepSegments(t *testing.T) {
	a, b := ends(t)
	a.write("ab")
	a.write("cd")
	b.KeepSegments(true)
	a.write("ef")
	a.write("")
	a.write("gh")
	b.KeepSegments(true) // again: changes nothing
	b.reads("abcd", "ef", "gh")

	a.write("long")
	a.write("er")
	p := make([]byte, 3)
	for _, want := range []string{"lon", "g", "er"} {
		if n, err := b.Read(p); string(p[:n]) != want || err != nil {
			t.Fatalf("Read = %q, %v; want %q", p[:n], err, want)
		}
	}

	a.write("x")
	a.write("y")
	a.does("Close", a.Close, nil)
	b.KeepSegments(false)
	b.reads("xy")
	b.readFails(io.EOF)
}

// A Write that had to wait for room is still one.
func TestSegmentWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.SetBuffer(4)
		b.KeepSegments(true)
		go func() {
			a.write("abcdef")
			a.write("gh")
		}()
		synctest.Wait()
		p := make([]byte, 2)
		if n, err := b.Read(p); string(p[:n]) != "ab" || err != nil {
			t.Fatalf("Read = %q, %v; want ab", p[:n], err)
		}
		synctest.Wait()
		b.reads("cdef", "gh")
	})
}

// A message cut at every place, through buffers of every size: the cuts arrive where they were made.
func TestSegmentsMatrix(t *testing.T) {
	message := []byte("0123456789abcdef")
	for size := 1; size <= len(message)+1; size++ {
		for cut := range len(message) + 1 {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pair()
				a.SetBuffer(size)
				b.KeepSegments(true)
				go func() {
					a.Write(message[:cut])
					a.Write(message[cut:])
					a.Close()
				}()
				var got []byte
				var at []int
				p := make([]byte, 100)
				for {
					synctest.Wait()
					n, err := b.Read(p)
					got = append(got, p[:n]...)
					if at = append(at, len(got)); err == io.EOF {
						break
					} else if err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, message) {
					t.Fatalf("buffer %d, cut %d: read %q", size, cut, got)
				}
				if cut > 0 && !slices.Contains(at, cut) {
					t.Errorf("buffer %d: reads ended at %v, none at the cut %d", size, at, cut)
				}
				if size > len(message) && len(at) > 3 {
					t.Errorf("cut %d: reads ended at %v, want no other cut", cut, at)
				}
			})
		}
	}
}

func TestLimitWrite(t *testing.T) {
	a, b := ends(t)
	b.KeepSegments(true)
	a.LimitWrite(2)
	a.write("abcde")
	b.reads("ab", "cd", "e")
	a.LimitWrite(0)
	a.write("abcde")
	b.reads("abcde")
	b.KeepSegments(false)
	a.LimitWrite(1)
	a.write("abcde")
	b.reads("abcde")
}

func TestStallWriteAfter(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(a, b *Conn) // after a minute
		want error
	}{
		{"the deadline", nil, nil}, // set below
		{"own Close", func(a, b *Conn) { a.Close() }, net.ErrClosed},
		{"own CloseWrite", func(a, b *Conn) { a.CloseWrite() }, syscall.EPIPE},
		{"own Reset", func(a, b *Conn) { a.Reset() }, syscall.ECONNRESET},
		{"the peer's Close", func(a, b *Conn) { b.Close() }, syscall.EPIPE},
		{"the peer's Reset", func(a, b *Conn) { b.Reset() }, syscall.ECONNRESET},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := ends(t)
				a.StallWriteAfter(7)
				a.write("1234")
				b.reads("1234")
				if test.end == nil {
					a.SetWriteDeadline(time.Now().Add(time.Minute))
					if n := waits(t, time.Minute, a.writeFive); n != 3 {
						t.Errorf("Write says %d bytes were taken, want 3", n)
					}
					b.reads("123")
					return
				}
				start := time.Now()
				go func() {
					b.reads("123")
					time.Sleep(time.Minute)
					test.end(a.Conn, b.Conn)
				}()
				a.writeFails("12345", 3, test.want)
				if took := time.Since(start); took != time.Minute {
					t.Errorf("the stall took %v, want a minute", took)
				}
			})
		})
	}
}

// A stall can begin at any time, stops neither empty Writes nor Reads, and can be taken back.
func TestStallComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.write("12345")
		a.StallWriteAfter(2)
		a.write("")
		for i := range 3 {
			start := time.Now()
			time.AfterFunc(time.Second, func() { a.StallWriteAfter(-1) })
			a.write("67")
			if took := time.Since(start); took != time.Second {
				t.Errorf("Write %d took %v, want a second", i, took)
			}
			a.StallWriteAfter(0)
		}
		b.write("x")
		a.reads("x")
		b.reads("12345676767")
	})
}

// The count of a fault is of all bytes since the start, however they are cut.
func TestFailAfter(t *testing.T) {
	for k := range 11 {
		t.Run(fmt.Sprint(k, " bytes"), func(t *testing.T) {
			a, b := ends(t)
			a.FailWriteAfter(int64(k), errBoom)
			sum := 0
			for sum < k {
				n, err := a.Write([]byte("12345"))
				if sum += n; (n < 5) != (err != nil) || err != nil && err != errBoom {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			if sum != k {
				t.Fatalf("%d bytes were taken, want %d", sum, k)
			}
			a.writeFails("x", 0, errBoom)
			a.write("")
			b.unread(k)
			a.FailWriteAfter(0, nil)
			a.write("12345")

			b.FailReadAfter(int64(k), errBoom)
			got, err := io.ReadAll(b)
			if len(got) != k || err != errBoom {
				t.Fatalf("read %d bytes, %v; want %d, boom", len(got), err, k)
			}
			b.readFails(errBoom)
			b.FailReadAfter(0, nil)
			b.reads("12345")
		})
	}
}

// What ends a connection before the fault's byte is what the call returns.
func TestFaultNotReached(t *testing.T) {
	a, b := ends(t)
	a.FailWriteAfter(100, errBoom)
	b.FailReadAfter(100, errBoom)
	a.write("abc")
	a.does("Close", a.Close, nil)
	a.writeFails("x", 0, net.ErrClosed)
	b.reads("abc")
	b.readFails(io.EOF)
	b.FailReadAfter(3, errBoom)
	b.readFails(errBoom)
}
