package websocket

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// While connections come and go, each of them is counted once at any time, and
// no sum becomes less.
func TestStatsAddUpAtAnyTime(t *testing.T) {
	const workers, each = 8, 40
	var opened, closed atomic.Int64
	var bytesIn, bytesOut, in, out atomic.Uint64 // of what is over
	u := &Upgrader{Config: Config{Logger: slog.New(slog.DiscardHandler), CloseTimeout: -1, Trace: &Trace{
		Opened: func(*Conn) { opened.Add(1) },
		Closed: func(_ *Conn, end Closing) {
			closed.Add(1)
			bytesIn.Add(end.Received.Bytes)
			bytesOut.Add(end.Sent.Bytes)
			in.Add(end.Received.Messages)
			out.Add(end.Sent.Messages)
		},
	}}}
	if _, err := u.settings(); err != nil {
		t.Fatal(err)
	}
	stop, looked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looked)
		var last Stats
		for {
			s := u.Stats()
			over := uint64(0)
			for code, n := range s.Closed {
				over += n.Local + n.Remote
				if before := last.Closed[code]; n.Local < before.Local || n.Remote < before.Remote {
					t.Errorf("%v: %v after %v", code, n, before)
				}
			}
			if s.Upgraded != uint64(s.Open)+over {
				t.Errorf("%d upgraded, but %d open and %d over", s.Upgraded, s.Open, over)
			}
			if s.Received.Bytes < last.Received.Bytes || s.Received.Messages < last.Received.Messages ||
				s.Sent.Bytes < last.Sent.Bytes || s.Sent.Messages < last.Sent.Messages || s.Upgraded < last.Upgraded || s.QueuedMax < last.QueuedMax {
				t.Errorf("%+v after %+v", s, last)
			}
			last = s
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				c, peer := attach(t, u)
				go io.Copy(io.Discard, peer)
				read := make(chan struct{})
				if i%2 == 0 {
					c.Start(tellEvents{make(chan error, 100)})
					close(read)
				} else {
					go func() {
						defer close(read)
						for {
							if _, _, err := c.Read(context.Background()); err != nil {
								return
							}
						}
					}()
				}
				go c.Send(Text, []byte("hello"))
				io.WriteString(peer, hi+bye+hi)
				c.Write(context.Background(), Text, []byte("hello"))
				switch (w + i) % 5 {
				case 0:
					c.Close(StatusCode(3000+i), "")
				case 1:
					c.CloseNow()
				case 2:
					io.WriteString(peer, "\x88\x80\x00\x00\x00\x00")
				case 3:
					peer.Close()
				case 4:
					io.WriteString(peer, "\xff")
				}
				if (w+i)%5 != 2 { // it waits for nothing then but the end of the stream
					peer.CloseWrite()
				}
				<-read
				peer.CloseWrite()
				<-c.Context().Done()
				peer.Close()
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(20 * time.Second); u.Stats().Open > 0 && time.Now().Before(end); {
		runtime.Gosched()
	}
	close(stop)
	<-looked
	s := u.Stats()
	if opened.Load() != workers*each || closed.Load() != workers*each || s.Upgraded != workers*each {
		t.Errorf("%d opened, %d closed, %d upgraded, want %d", opened.Load(), closed.Load(), s.Upgraded, workers*each)
	}
	if got, want := s.Received, (Traffic{in.Load(), bytesIn.Load()}); got != want {
		t.Errorf("received %+v, the connections say %+v", got, want)
	}
	if got, want := s.Sent, (Traffic{out.Load(), bytesOut.Load()}); got != want {
		t.Errorf("sent %+v, the connections say %+v", got, want)
	}
	if n := u.live.partial.Load(); n != 0 {
		t.Errorf("%d bytes are held of nothing", n)
	}
}
