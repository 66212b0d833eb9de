package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// inPipe calls f with the ends of a pipe, in a bubble.
func inPipe(t *testing.T, o *websocket.PipeOptions, f func(t *testing.T, server, client *websocket.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o != nil {
			if o.Server.Logger == nil {
				o.Server.Logger = slog.New(slog.DiscardHandler)
			}
		}
		server, client := websocket.Pipe(o)
		defer server.CloseNow()
		defer client.CloseNow()
		f(t, server, client)
	})
}

var ctx = context.Background()

func TestPipeBothWays(t *testing.T) {
	inPipe(t, nil, func(t *testing.T, server, client *websocket.Conn) {
		ends := []*websocket.Conn{server, client}
		for i, c := range ends {
			other := ends[1-i]
			for _, size := range []int{0, 1, 126, 32 << 10} {
				text := strings.Repeat("x", size)
				// Nobody reads yet.
				if err := done(t, "Write", async(func() error { return c.Write(ctx, websocket.Text, []byte(text)) })); err != nil {
					t.Fatal(err)
				}
				wantMessage(t, other, websocket.Text, text)
			}
			if err := c.Send(websocket.Binary, []byte("sent")); err != nil {
				t.Error(err)
			}
			wantMessage(t, other, websocket.Binary, "sent")
			w, err := c.Writer(ctx, websocket.Text)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, "streamed")
			w.Close()
			_, r, err := other.Reader(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r); string(b) != "streamed" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if c.Subprotocol() != "" || c.LocalAddr().String() != other.RemoteAddr().String() || c.LocalAddr().String() == c.RemoteAddr().String() {
				t.Errorf("%q, %v, %v", c.Subprotocol(), c.LocalAddr(), c.RemoteAddr())
			}
		}
	})
}

// What one side writes waits for room, in time that a bubble controls.
func TestPipeBuffer(t *testing.T) {
	for _, size := range []int{0, 1000} {
		room := size
		if size == 0 {
			room = 64 << 10
		}
		o := &websocket.PipeOptions{Buffer: size, Server: websocket.Config{WriteTimeout: time.Hour}, Client: websocket.Config{WriteTimeout: 3 * time.Second}}
		inPipe(t, o, func(t *testing.T, server, client *websocket.Conn) {
			const head = 2 + 2 // of what is neither short nor long
			fits := bytes.Repeat([]byte{'x'}, min(room, 60000)-head)
			if err := done(t, "Write", async(func() error { return server.Write(ctx, websocket.Binary, fits) })); err != nil {
				t.Error(err)
			}
			waits := async(func() error { return server.Write(ctx, websocket.Binary, make([]byte, 64<<10)) })
			wantPending(t, "Write", waits)
			wantMessage(t, client, websocket.Binary, string(fits))
			wantMessage(t, client, websocket.Binary, string(make([]byte, 64<<10)))
			if err := done(t, "Write", waits); err != nil {
				t.Error(err)
			}
			start := time.Now()
			wantTimeout(t, client.Write(ctx, websocket.Binary, make([]byte, 1<<20)))
			wantElapsed(t, start, 3*time.Second)
		})
	}
}

func TestPipeContext(t *testing.T) {
	inPipe(t, nil, func(t *testing.T, server, client *websocket.Conn) {
		for _, c := range []*websocket.Conn{server, client} {
			short, cancel := context.WithTimeout(ctx, time.Second)
			start := time.Now()
			m := readOne(short, c)
			wantContextError(t, "Read", m.err, short)
			wantElapsed(t, start, time.Second)
			cancel()
		}
		client.Write(ctx, websocket.Text, []byte("goes on"))
		wantMessage(t, server, websocket.Text, "goes on")
	})
}

func TestPipeClose(t *testing.T) {
	const bothClose = "both close"
	for _, tt := range []struct {
		name string
		end  func(server, client *websocket.Conn)
		want [2]struct {
			code   websocket.StatusCode
			remote bool
		}
	}{
		{"the server closes", func(s, c *websocket.Conn) { s.Close(4000, "bye") }, ends2(4000, false, 4000, true)},
		{"the client closes", func(s, c *websocket.Conn) { c.Close(1010, "") }, ends2(1010, true, 1010, false)},
		{bothClose, func(s, c *websocket.Conn) { s.Close(4000, ""); c.Close(4001, "") }, ends2(4000, false, 4001, false)},
		{"the server cuts", func(s, c *websocket.Conn) { s.CloseNow() }, ends2(1006, false, 1006, true)},
		{"the client cuts", func(s, c *websocket.Conn) { c.CloseNow() }, ends2(1006, true, 1006, false)},
		{"what is sent arrives before", func(s, c *websocket.Conn) {
			s.Write(ctx, websocket.Text, []byte("last"))
			s.Close(4000, "")
		}, ends2(4000, false, 4000, true)},
	} {
		inPipe(t, nil, func(t *testing.T, server, client *websocket.Conn) {
			start := time.Now()
			if tt.name == bothClose {
				// Before either has read what the other sent.
				tt.end(server, client)
			}
			reads := []<-chan error{readingOn(server), readingOn(client)}
			if tt.name != bothClose {
				tt.end(server, client)
			}
			for i, c := range []*websocket.Conn{server, client} {
				closed := wantOver(t, c)
				if want := tt.want[i]; closed.Code != want.code || closed.Remote != want.remote {
					t.Errorf("%s: end %d: %v", tt.name, i, closed)
				}
				if err := done(t, "Read", reads[i]); err != error(closed) {
					t.Errorf("%s: Read: %v, Context: %v", tt.name, err, closed)
				}
			}
			wantElapsed(t, start, 0)
		})
	}
}

func ends2(c websocket.StatusCode, cr bool, d websocket.StatusCode, dr bool) (e [2]struct {
	code   websocket.StatusCode
	remote bool
}) {
	e[0].code, e[0].remote, e[1].code, e[1].remote = c, cr, d, dr
	return e
}

// A Handler serves the server's end, and its return is the end.
func TestPipeHandler(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler func(*websocket.Conn) error
		code    websocket.StatusCode
		reason  string
	}{
		{"nil", func(*websocket.Conn) error { return nil }, 1000, ""},
		{"a CloseError", func(*websocket.Conn) error { return &websocket.CloseError{Code: 4004, Reason: "no"} }, 4004, "no"},
		{"an error", func(*websocket.Conn) error { return errors.New("secret") }, 1011, ""},
		{"a panic", func(*websocket.Conn) error { panic("secret") }, 1011, ""},
		{"later", func(c *websocket.Conn) error { time.Sleep(time.Hour); return nil }, 1000, ""},
	} {
		o := &websocket.PipeOptions{Handler: tt.handler, Subprotocol: "chat", Client: websocket.Config{PingInterval: -1}}
		inPipe(t, o, func(t *testing.T, server, client *websocket.Conn) {
			_, _, err := client.Read(ctx)
			if closed := wantClosed(t, err, tt.code, true); closed.Reason != tt.reason {
				t.Errorf("%s: %v", tt.name, closed)
			}
			if server.Subprotocol() != "chat" || client.Subprotocol() != "chat" {
				t.Errorf("%q, %q", server.Subprotocol(), client.Subprotocol())
			}
			wantOver(t, server)
			wantOver(t, client)
		})
	}
}

// Event mode, groups and keepalive are those of any connection.
func TestPipeRest(t *testing.T) {
	inPipe(t, nil, func(t *testing.T, server, client *websocket.Conn) {
		e := &listener{each: func(typ websocket.MessageType, p []byte) error { return server.Send(typ, p) }, closed: make(chan error, 1)}
		server.Start(e)
		client.CloseRead()
		time.Sleep(24 * time.Hour) // full of pings
		if _, err := client.Ping(ctx); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the pings of this very moment: nothing leaves but what the Group flushes
		var g websocket.Group
		g.Add(server)
		g.Add(client)
		p, err := websocket.NewPrepared(websocket.Text, []byte("to all"))
		if err != nil {
			t.Fatal(err)
		}
		if accepted, dropped := g.Send(p); accepted != 2 || dropped != 0 {
			t.Errorf("%d, %d", accepted, dropped)
		}
		// CloseRead refuses it, and the server's echo is too late.
		wantClosed(t, done(t, "Closed", e.closed), websocket.StatusUnsupportedData, true)
	})
	inPipe(t, nil, func(t *testing.T, server, client *websocket.Conn) {
		end := readingOn(server) // and nobody reads from the client
		err := <-end
		wantClosed(t, err, websocket.StatusAbnormalClosure, true)
		if !strings.Contains(err.Error(), "after a ping") {
			t.Errorf("%v", err)
		}
	})
}

func TestPipeRefusesNonsense(t *testing.T) {
	for _, o := range []*websocket.PipeOptions{
		{Server: websocket.Config{WriteQueue: -1}},
		{Client: websocket.Config{PingTimeout: -1}},
	} {
		func() {
			defer func() {
				if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "websocket: pipe: Config.") {
					t.Errorf("%v", s)
				}
			}()
			websocket.Pipe(o)
		}()
	}
}

// Outside of a bubble, it takes the time that it takes.
func TestPipeOutside(t *testing.T) {
	server, client := websocket.Pipe(nil)
	go server.Write(ctx, websocket.Text, []byte("hi"))
	if m := readOne(ctx, client); m != (message{websocket.Text, "hi", nil}) {
		t.Errorf("%v", m)
	}
	read := readingOn(server)
	client.Close(websocket.StatusNormalClosure, "")
	wantClosed(t, <-read, websocket.StatusNormalClosure, true)
	<-client.Context().Done()
	<-server.Context().Done()
}

// greet is the handler that the examples test.
func greet(c *websocket.Conn) error {
	for {
		minute, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, name, err := c.Read(minute)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return &websocket.CloseError{Code: 4008, Reason: "you are so quiet"}
		case err != nil:
			return err
		}
		if err := c.Write(context.Background(), websocket.Text, append([]byte("Hello, "), name...)); err != nil {
			return err
		}
	}
}

// Pipe tests a handler without a network. In a bubble of testing/synctest, even a
// minute takes no time.
func ExamplePipe() {
	_, client := websocket.Pipe(&websocket.PipeOptions{Handler: greet})
	ctx := context.Background()

	if err := client.Write(ctx, websocket.Text, []byte("Ada")); err != nil {
		fmt.Println(err)
	}
	_, greeting, err := client.Read(ctx)
	fmt.Printf("%s %v\n", greeting, err)

	client.Close(websocket.StatusNormalClosure, "")
	<-client.Context().Done()
	// Output: Hello, Ada <nil>
}

// Dial connects to a server; here one of net/http/httptest, with which a handler
// is tested as it will be mounted.
func ExampleDial() {
	server := httptest.NewServer(&websocket.Upgrader{Handler: greet, Subprotocols: []string{"greeting"}})
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{Subprotocols: []string{"greeting"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.Text, []byte("Ada")); err != nil {
		fmt.Println(err)
	}
	_, greeting, err := c.Read(ctx)
	fmt.Printf("%s %v, in %s\n", greeting, err, c.Subprotocol())

	c.Close(websocket.StatusNormalClosure, "")
	<-c.Context().Done() // until the server has seen it
	// Output: Hello, Ada <nil>, in greeting
}

// A refusal is an answer like any other, and its body can be read.
func ExampleDialError() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "come back tomorrow", http.StatusServiceUnavailable)
	}))
	defer server.Close()

	_, resp, err := websocket.Dial(context.Background(), server.URL, nil)
	var refused *websocket.DialError
	if errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable {
		body, _ := io.ReadAll(resp.Body)
		fmt.Printf("%s", body)
	}
	fmt.Println(err)
	// Output:
	// come back tomorrow
	// websocket: dial: the server answered 503 Service Unavailable
}

// The handler of the examples, minute by minute.
func TestPipeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := websocket.Pipe(&websocket.PipeOptions{Handler: greet})
		time.Sleep(59 * time.Second)
		if err := client.Write(ctx, websocket.Text, []byte("Ada")); err != nil {
			t.Fatal(err)
		}
		wantMessage(t, client, websocket.Text, "Hello, Ada")
		start := time.Now()
		_, _, err := client.Read(ctx)
		wantElapsed(t, start, time.Minute)
		if closed := wantClosed(t, err, 4008, true); closed.Reason != "you are so quiet" {
			t.Errorf("%v", closed)
		}
	})
}
