package websocket

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
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
