// Chat is a small chat server: rooms, names, who is there, who is typing, and
// the last messages for whoever comes in. It needs nothing besides the standard
// library and the websocket package, and keeps everything in memory.
//
//	go run ./examples/chat
//
// The code reads top to bottom in this order: main.go (HTTP and the end),
// hub.go (one connection's life; the only lock), room.go (what happens in a
// room and who is told), protocol.go (what goes over the wire and what is
// refused).
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sockeye-ws/websocket"
)

//go:embed index.html style.css chat.js
var page embed.FS

// shutdownTimeout bounds the graceful end. Whoever has not answered by then is
// cut off.
const shutdownTimeout = 3 * time.Second

func main() {
	addr := flag.String("addr", "localhost:8080", "`address` to listen on")
	var origins []string
	flag.Func("origin", "extra `origin` whose pages may connect, as https://app.example.com (repeatable)", func(s string) error {
		origins = append(origins, s)
		return nil
	})
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from then on a second Ctrl-C ends the process at once
	if err := run(ctx, *addr, origins, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run listens on addr, says on out where, and serves until ctx is done.
func run(ctx context.Context, addr string, origins []string, out io.Writer) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, pageURL(addr, ln.Addr()))
	return serve(ctx, ln, origins)
}

func serve(ctx context.Context, ln net.Listener, origins []string) error {
	chat := newUpgrader(newHub(), origins)
	srv := &http.Server{Handler: routes(chat), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()

	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	// The members first: http.Server.Shutdown neither closes nor waits for
	// connections that were upgraded. Whoever does not answer is cut.
	_ = chat.Shutdown(ctx)
	if srv.Shutdown(ctx) != nil {
		// Browsers open spare connections and say nothing on them.
		return srv.Close()
	}
	return nil
}

func newUpgrader(h *hub, origins []string) *websocket.Upgrader {
	return &websocket.Upgrader{
		Handler: h.serve,
		Origins: origins,
		Config:  websocket.Config{ReadLimit: maxRequest, WriteQueue: maxBehind},
		// The pages come back by themselves, each after a time of its own.
		ShutdownCode:   websocket.StatusServiceRestart,
		ShutdownReason: "The server restarts.",
		ShutdownWindow: -1,
	}
}

// routes is the whole HTTP side.
func routes(chat http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", chat)
	files := http.FileServerFS(page)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// The page shows what strangers write. It does so as text only; should
		// that ever break, this policy still keeps foreign code out.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
			"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
	return mux
}

// pageURL is what to open in a browser: the host as it was asked for, since the
// listener knows only the number behind it, and the port that was really taken.
func pageURL(asked string, got net.Addr) string {
	host, _, err := net.SplitHostPort(asked)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(got.String())
	return "http://" + net.JoinHostPort(host, port) + "/"
}
