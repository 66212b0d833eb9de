// Wire is the server that the browser test of the library talks to: endpoints
// that each show one thing a page can see of a WebSocket. It serves them on two
// ports, so that pages of one are strangers to the other, and prints both.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/sockeye-ws/websocket"
)

func main() {
	ends := &ends{byID: make(map[string]chan websocket.CloseError)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>wire</title><link rel="icon" href="data:,">`)
	})
	mux.Handle("/echo", &websocket.Upgrader{Handler: echo})
	mux.Handle("/early", &websocket.Upgrader{Handler: early})
	mux.Handle("/close", &websocket.Upgrader{Open: closeAsAsked})
	mux.Handle("/watch", &websocket.Upgrader{Open: ends.watch})
	mux.HandleFunc("GET /ended", ends.serve)
	mux.Handle("/protocol", &websocket.Upgrader{
		Subprotocols: []string{"notes.v1", "notes.v2"},
		Handler: func(c *websocket.Conn) error {
			return c.Write(c.Context(), websocket.Text, []byte(c.Subprotocol()))
		},
	})

	failed := make(chan error)
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("http://%s/\n", ln.Addr())
		go func() { failed <- http.Serve(ln, mux) }()
	}
	log.Fatal(<-failed)
}

func echo(c *websocket.Conn) error {
	for m, err := range c.Messages(c.Context()) {
		if err != nil {
			return err
		}
		if err := c.Write(c.Context(), m.Type, m.Data); err != nil {
			return err
		}
	}
	return nil
}

// early speaks before the page has had time to.
func early(c *websocket.Conn) error {
	if err := c.Write(c.Context(), websocket.Text, []byte("early")); err != nil {
		return err
	}
	return echo(c)
}

// closeAsAsked closes with the code and reason of the query.
func closeAsAsked(r *http.Request, _ http.Header) (func(*websocket.Conn) error, error) {
	code, err := strconv.ParseUint(r.FormValue("code"), 10, 16)
	if err != nil {
		return nil, &websocket.HandshakeError{Status: http.StatusBadRequest, Reason: "code?"}
	}
	reason := r.FormValue("reason")
	return func(*websocket.Conn) error {
		return &websocket.CloseError{Code: websocket.StatusCode(code), Reason: reason}
	}, nil
}

// ends tells pages what the server saw of a connection's end.
type ends struct {
	mu   sync.Mutex
	byID map[string]chan websocket.CloseError
}

func (e *ends) of(id string) chan websocket.CloseError {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byID[id] == nil {
		e.byID[id] = make(chan websocket.CloseError, 1)
	}
	return e.byID[id]
}

func (e *ends) watch(r *http.Request, _ http.Header) (func(*websocket.Conn) error, error) {
	end := e.of(r.FormValue("id"))
	return func(c *websocket.Conn) error {
		for {
			_, _, err := c.Read(context.Background())
			var ce *websocket.CloseError
			if errors.As(err, &ce) {
				end <- *ce
				return err
			}
			if err != nil {
				return err
			}
		}
	}, nil
}

// serve answers when the connection with that id has ended.
func (e *ends) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case end := <-e.of(r.FormValue("id")):
		json.NewEncoder(w).Encode(map[string]any{"code": end.Code, "reason": end.Reason, "remote": end.Remote})
	case <-r.Context().Done():
	}
}
