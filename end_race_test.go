package websocket

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// Whoever comes to read while the connection ends must not have the turn: what
// was to interrupt the wait has gone to the one before it.
func TestEndGoesToNobodyElse(t *testing.T) {
	// On one processor the next of a goroutine comes before those it wakes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const timeout = 20 * time.Millisecond
	tests := []struct {
		name string
		next func(c *Conn, e Events)
	}{
		{"CloseRead", func(c *Conn, e Events) { c.CloseRead() }},
		{"Start", func(c *Conn, e Events) { c.Start(e) }},
		{"Ping", func(c *Conn, e Events) { _, _ = c.Ping(context.Background()) }},
		{"a Ping on its way", func(c *Conn, e Events) {
			// As one that was asked for before the end.
			if c.takeFor(turnPing) {
				_, _, err := c.nextData(context.Background(), nil)
				_ = c.settle(err)
				c.giveTurn()
			}
		}},
	}
	for _, tt := range tests {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				server, client := Pipe(&PipeOptions{Server: Config{CloseTimeout: timeout}})
				defer client.CloseNow()
				defer server.CloseNow()
				closed := make(chan struct{})
				go func() {
					_, _, _ = server.Read(context.Background())
					tt.next(server, closer{closed})
				}()
				synctest.Wait()
				began := time.Now()
				if err := server.Close(StatusNormalClosure, ""); err != nil {
					t.Fatal(err)
				}
				select { // the client does not answer
				case <-server.Context().Done():
				case <-time.After(time.Hour):
					t.Fatalf("%s: it has not ended in an hour; the turn is with %d", tt.name, server.turn.Holder())
				}
				if took := time.Since(began); took < timeout || took > timeout+drainTime {
					t.Errorf("%s: it has ended after %v", tt.name, took)
				}
				if tt.name != "Start" {
					return
				}
				select {
				case <-closed:
				case <-time.After(time.Hour):
					t.Fatal("Closed is not told")
				}
			})
		}
	}
}

// A closer tells of Closed.
type closer struct{ closed chan struct{} }

func (closer) Message(*Conn, MessageType, []byte) error { return nil }
func (e closer) Closed(*Conn, error)                    { close(e.closed) }

// An interrupt that was meant for a wait before the end, and comes late, shortens
// nothing of it.
func TestEndIsNotCutShort(t *testing.T) {
	const timeout = 5 * time.Second
	t.Run("waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			peer, here := memconn.Pair()
			defer peer.Close()
			c := newConn(here, nil, on(Config{CloseTimeout: timeout, PingInterval: -1}), "", nil)
			began := time.Now()
			c.Close(StatusNormalClosure, "") // to which the peer says nothing
			for _, at := range []time.Duration{time.Second, timeout + drainTime/2} {
				time.Sleep(at - time.Since(began))
				c.t.In().Interrupt()
			}
			<-c.Context().Done()
			if took := time.Since(began); took != timeout+drainTime {
				t.Errorf("it took %v", took)
			}
		})
	})
	t.Run("sending", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			peer, here := memconn.Pair()
			defer peer.Close()
			here.StallWriteAfter(0)
			c := newConn(here, nil, on(Config{CloseTimeout: timeout, PingInterval: -1, WriteTimeout: time.Minute}), "", nil)
			if err := c.Send(Binary, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			c.Close(StatusNormalClosure, "")
			synctest.Wait()
			c.t.In().Interrupt()
			synctest.Wait()
			// The peer writes before it reads, more than fits into the network.
			peer.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := peer.Write(sealed(0x82, strings.Repeat("a", 1<<20))); err != nil {
				t.Errorf("the peer writes: %v", err)
			}
			here.StallWriteAfter(-1)
			peer.CloseWrite()
			b, err := io.ReadAll(peer)
			if want := "\x88\x02\x03\xe8"; err != nil || !strings.HasSuffix(string(b), want) {
				t.Errorf("the peer reads %d bytes, %v", len(b), err)
			}
			<-c.Context().Done()
		})
	})
}
