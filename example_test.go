package websocket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// The Upgrader is mounted like any other handler. Its Handler gets the
// connection for itself and ends it by returning.
func ExampleUpgrader() {
	mux := http.NewServeMux()
	mux.Handle("/ws", &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
		ctx := c.Context()
		for m, err := range c.Messages(ctx) {
			if err != nil {
				return err
			}
			if err := c.Write(ctx, m.Type, m.Data); err != nil {
				return err
			}
		}
		return nil
	}})
	srv := httptest.NewServer(mux)
	defer srv.Close()

	client := dial(srv.URL)
	client.Send("hello")
	fmt.Println(client.Receive())
	client.Close(1000, "")
	// Output: hello
}

// Open sees the request before it is answered: it refuses it, or hands what the
// connection needs of it to the function that will serve it.
func ExampleUpgrader_open() {
	users := map[string]string{"s3cret": "Ada"} // by session cookie
	upgrader := &websocket.Upgrader{
		Subprotocols: []string{"greeting.v2", "greeting.v1"},
		Open: func(r *http.Request, header http.Header) (func(*websocket.Conn) error, error) {
			var user string
			if cookie, err := r.Cookie("session"); err == nil {
				user = users[cookie.Value]
			}
			if user == "" {
				return nil, &websocket.HandshakeError{Status: http.StatusUnauthorized, Reason: "please sign in"}
			}
			header.Set("X-Greeting", "on")
			return func(c *websocket.Conn) error {
				greeting := fmt.Sprintf("Hello, %s! We speak %s.", user, c.Subprotocol())
				return c.Write(c.Context(), websocket.Text, []byte(greeting))
			}, nil
		},
	}
	srv := httptest.NewServer(upgrader)
	defer srv.Close()

	stranger := dial(srv.URL)
	fmt.Println(stranger.Response.Status)

	ada := dial(srv.URL, "Cookie: session=s3cret", "Sec-WebSocket-Protocol: greeting.v1")
	fmt.Println(ada.Response.Status, ada.Response.Header["X-Greeting"])
	fmt.Println(ada.Receive())
	ada.WaitClose()
	// Output:
	// 401 Unauthorized
	// 101 Switching Protocols [on]
	// Hello, Ada! We speak greeting.v1.
}

// Upgrade is for handlers that want to keep the loop, and net/http's goroutine,
// for themselves. The connection is theirs to close.
func ExampleUpgrader_Upgrade() {
	var upgrader websocket.Upgrader
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return // the request has been answered
		}
		defer c.CloseNow()
		_ = c.Write(r.Context(), websocket.Text, []byte("hello"))
		_ = c.Close(websocket.StatusNormalClosure, "that was all")
		<-c.Context().Done() // until the peer has it
	}))
	defer srv.Close()

	client := dial(srv.URL)
	fmt.Println(client.Receive())
	fmt.Println(client.WaitClose())
	// Output:
	// hello
	// 1000 that was all
}

// A context bounds one call. A Read whose context ends loses nothing: the next
// one goes on where it stopped.
func ExampleConn_Read() {
	client := serve(func(c *websocket.Conn) error {
		hurry, cancel := context.WithCancel(context.Background())
		cancel()
		_, _, err := c.Read(hurry)
		fmt.Println(errors.Is(err, context.Canceled))

		typ, p, err := c.Read(context.Background())
		if err != nil {
			return err
		}
		fmt.Printf("%v: %s\n", typ, p)
		return nil
	})
	client.Send("hello")
	client.WaitClose()
	// Output:
	// true
	// text: hello
}

// ReadAppend with one buffer for all messages: what it returns is valid until
// the buffer is used again.
func ExampleConn_ReadAppend() {
	client := serve(func(c *websocket.Conn) error {
		buf := make([]byte, 0, 4096)
		for {
			_, p, err := c.ReadAppend(context.Background(), buf[:0])
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", p)
			buf = p // it may have grown
		}
	})
	client.Send("one")
	client.Send("two")
	client.Close(1000, "")
	// Output:
	// one
	// two
}

// A Reader streams a message that need not be held in memory.
func ExampleConn_Reader() {
	client := serve(func(c *websocket.Conn) error {
		typ, r, err := c.Reader(context.Background())
		if err != nil {
			return err
		}
		var point struct{ X, Y int }
		if err := json.NewDecoder(r).Decode(&point); err != nil {
			return err
		}
		fmt.Println(typ, point.X, point.Y)
		return nil
	})
	client.Send(`{"x": 3, "y": 4}`)
	client.WaitClose()
	// Output: text 3 4
}

// The loop ends by itself when the peer closes as usual. Every other end comes
// as the last element.
func ExampleConn_Messages() {
	client := serve(func(c *websocket.Conn) error {
		for m, err := range c.Messages(context.Background()) {
			if err != nil {
				return err
			}
			fmt.Printf("%v: %s\n", m.Type, m.Data)
		}
		fmt.Println("the peer has left")
		return nil
	})
	client.Send("one")
	client.Send("two")
	client.Close(1001, "")
	// Output:
	// text: one
	// text: two
	// the peer has left
}

// Any number of goroutines may write. A message is taken whole or not at all.
func ExampleConn_Write() {
	client := serve(func(c *websocket.Conn) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := c.Write(ctx, websocket.Text, []byte("caf\xe9"))
		fmt.Println(errors.Is(err, websocket.ErrInvalidUTF8))

		return c.Write(ctx, websocket.Text, []byte("café"))
	})
	fmt.Println(client.Receive())
	client.WaitClose()
	// Output:
	// true
	// café
}

// A Writer sends a message of unknown size; it is complete when the writer has
// been closed.
func ExampleConn_Writer() {
	client := serve(func(c *websocket.Conn) error {
		w, err := c.Writer(context.Background(), websocket.Text)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(w).Encode(map[string]int{"x": 3, "y": 4}); err != nil {
			return err
		}
		return w.Close()
	})
	fmt.Print(client.Receive())
	client.WaitClose()
	// Output: {"x":3,"y":4}
}

// Ping tells whether the peer is still there, and how far away it is.
func ExampleConn_Ping() {
	client := serve(func(c *websocket.Conn) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		rtt, err := c.Ping(ctx)
		if err != nil {
			return err
		}
		fmt.Println("here, and near:", rtt < 20*time.Second)
		return nil
	})
	client.WaitClose()
	// Output: here, and near: true
}

// Close never waits. From then on every call returns the same error; it Is
// net.ErrClosed because this side wanted the end.
func ExampleConn_Close() {
	client := serve(func(c *websocket.Conn) error {
		fmt.Println(c.Close(4999, "\xff")) // refused: the connection stays open

		if err := c.Close(websocket.StatusTryAgainLater, "back at noon"); err != nil {
			return err
		}
		err := c.Write(context.Background(), websocket.Text, []byte("too late"))
		fmt.Println(err)
		fmt.Println(errors.Is(err, net.ErrClosed))
		return nil
	})
	fmt.Println("client:", client.WaitClose())
	// Output:
	// websocket: close: reason is not UTF-8
	// websocket: closed with 1013 (try again later): "back at noon"
	// true
	// client: 1013 back at noon
}

// A feed only writes. CloseRead lets it notice when the peer leaves.
func ExampleConn_CloseRead() {
	updates := make(chan string)
	client := serve(func(c *websocket.Conn) error {
		c.CloseRead()
		for {
			select {
			case text := <-updates:
				if err := c.Write(c.Context(), websocket.Text, []byte(text)); err != nil {
					return err
				}
			case <-c.Context().Done():
				fmt.Println("the peer has left")
				return nil
			}
		}
	})
	for _, text := range []string{"one", "two"} {
		updates <- text
		fmt.Println(client.Receive())
	}
	client.Close(1000, "")
	// Output:
	// one
	// two
	// the peer has left
}

// Context is for what works on behalf of the connection. It is done when all is
// over, and its cause says how that came.
func ExampleConn_Context() {
	client := serve(func(c *websocket.Conn) error {
		c.CloseRead()
		<-c.Context().Done()
		fmt.Println(context.Cause(c.Context()))
		return nil
	})
	client.Close(4000, "lunch")
	// Output: websocket: closed by the peer with 4000: "lunch"
}

// A handler closes with a code of its own by returning it. The peer's code is in
// the error of whichever call was waiting.
func ExampleCloseError() {
	answer := func(c *websocket.Conn) error {
		_, question, err := c.Read(context.Background())
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Remote:
			fmt.Println("handler: the peer sent", closed.Code, closed.Reason)
			return nil
		case err != nil:
			return err
		case !bytes.HasSuffix(question, []byte("?")):
			return &websocket.CloseError{Code: 4400, Reason: "that is not a question"}
		}
		return c.Write(context.Background(), websocket.Text, []byte("42"))
	}

	client := serve(answer)
	client.Send("Nice weather.")
	fmt.Println("client:", client.WaitClose())

	client = serve(answer)
	client.Close(4001, "never mind")
	// Output:
	// client: 4400 that is not a question
	// handler: the peer sent 4001 never mind
}
