package memconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestListener(t *testing.T) {
	l := Listen()
	if l.Addr().Network() != "mem" || l.Addr().String() == "" {
		t.Errorf("address is %v", l.Addr())
	}
	var clients []*Conn
	for range 3 {
		c, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	names := map[string]bool{}
	for _, c := range clients {
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if s.LocalAddr() != l.Addr() || c.RemoteAddr() != l.Addr() || s.RemoteAddr() != c.LocalAddr() {
			t.Errorf("addresses are %v to %v and %v to %v", c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
		}
		names[s.RemoteAddr().String()] = true
		end{c, t}.write("x")
		end{s.(*Conn), t}.reads("x")
	}
	if len(names) != 3 {
		t.Errorf("three clients have the names %v", names)
	}
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		accepted := make(chan error, 2)
		for range 2 {
			go func() { _, err := l.Accept(); accepted <- err }()
		}
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, dialErr := l.Dial()
		_, acceptErr := l.Accept()
		for _, err := range []error{<-accepted, <-accepted, dialErr, acceptErr, l.Close()} {
			var op *net.OpError
			if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
				t.Errorf("error is %v, want net.ErrClosed in a *net.OpError", err)
			}
		}
	})
}

// Dial waits when too many do already; Accept lets one more in, Close none.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		type result struct {
			c   *Conn
			err error
		}
		dialed := make(chan result, backlog+2)
		for range backlog + 2 {
			go func() { c, err := l.Dial(); dialed <- result{c, err} }()
		}
		synctest.Wait()
		if len(dialed) != backlog {
			t.Fatalf("%d have dialed, want %d", len(dialed), backlog)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(dialed) != backlog+1 {
			t.Fatalf("%d have dialed after one Accept, want %d", len(dialed), backlog+1)
		}
		l.Close()
		synctest.Wait()
		for i := range backlog + 2 {
			switch r := <-dialed; {
			case i == backlog+1:
				if !errors.Is(r.err, net.ErrClosed) || r.c != nil {
					t.Errorf("the last Dial = %v, %v; want net.ErrClosed", r.c, r.err)
				}
			case r.c.LocalAddr() == s.RemoteAddr(): // the accepted one is not touched
				end{r.c, t}.write("x")
				end{s.(*Conn), t}.reads("x")
			default:
				end{r.c, t}.readFails(syscall.ECONNRESET)
			}
		}
	})
}

// serve runs a server on a new listener and hands its client to use.
func serve(t *testing.T, use func(l *Listener, client *http.Client)) {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done(): // net/http reads in the background to see the client go
		case <-time.After(time.Hour):
			t.Error("the server has not seen that the client is gone")
		}
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack() // aborts the background read by a deadline in the past
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		io.WriteString(c, "you said "+line)
	})
	l := Listen()
	server := &http.Server{Handler: mux}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return l.Dial() }}
	use(l, &http.Client{Transport: transport})
	transport.CloseIdleConnections()
	if err := server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("Serve = %v, want http.ErrServerClosed", err)
	}
}

func useHTTP(t *testing.T, l *Listener, client *http.Client) {
	for _, size := range []int{0, 1, 5000, 1 << 20} {
		resp, err := client.Post("http://example.com/echo", "", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if len(body) != size || err != nil {
			t.Errorf("echo of %d bytes: %d bytes, %v", size, len(body), err)
		}
	}
	resp, err := client.Get("http://example.com/none")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status is %d, want 404", resp.StatusCode)
	}

	c, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	br := bufio.NewReader(c)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the answer is %v, %v; want 101", resp, err)
	}
	io.WriteString(c, "hello\n")
	if rest, err := io.ReadAll(br); string(rest) != "you said hello\n" || err != nil {
		t.Errorf("after the upgrade: %q, %v", rest, err)
	}
}

func TestHTTP(t *testing.T) {
	serve(t, func(l *Listener, client *http.Client) { useHTTP(t, l, client) })
}

func TestHTTPInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serve(t, func(l *Listener, client *http.Client) {
			useHTTP(t, l, client)

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://example.com/slow", nil)
			start := time.Now()
			if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("the request ended with %v after %v, want a time-out after a minute", err, time.Since(start))
			}
		})
	})
}

// net/http answers a header that is too large, half-closes and gives the client half a second before it closes, so that
// the answer is not lost to the reset that follows. It finds CloseWrite on a Conn and does the same here.
func TestHTTPHalfCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serve(t, func(l *Listener, _ *http.Client) {
			c, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			wrote := make(chan error)
			go func() {
				_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 2<<20))
				wrote <- err
			}()
			answer, err := io.ReadAll(c)
			if !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") || err != nil || time.Since(start) != 0 {
				t.Errorf("the answer is %q, %v after %v; want 431 and EOF at once", answer, err, time.Since(start))
			}
			if err := <-wrote; !errors.Is(err, syscall.ECONNRESET) || time.Since(start) != 500*time.Millisecond {
				t.Errorf("the request ended with %v after %v, want a reset after 500ms", err, time.Since(start))
			}
		})
	})
}
