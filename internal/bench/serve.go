package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// A hello is the first line that a server prints.
type hello struct {
	Addr string
	Cert []byte `json:",omitempty"` // with TLS
}

// The commands that a server reads from its standard input, a line each, and
// answers with a status. It ends with its input, so that no server outlives
// what has started it.
const (
	askStatus = "status"
	askMemory = "memory" // after collecting garbage
)

type status struct {
	CPU     time.Duration // user and system time of the process so far
	Allocs  uint64        // objects that it has allocated so far
	Members int64         // connections that a fan-out reaches
	RSS     int64         // resident bytes, for askMemory
}

// serve runs the server that args name.
func serve(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "address to listen on; a loopback one")
	mode := flags.String("mode", string(peer.Echo), "what to do: echo, stream, large, writers, fanout, upgrade, keepalive, deflate or deflate-takeover")
	idle := flags.Bool("idle", false, "let no handler keep a buffer while it waits")
	ping := flags.Duration("ping", 30*time.Second, "silence before a ping, of the servers that do so by themselves")
	profile := flags.String("cpuprofile", "", "file for a profile of all that the server does")
	secure := flags.Bool("tls", false, "use TLS")
	if len(args) == 0 {
		return errors.New("serve: which server?")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	s := peer.ByName(args[0])
	if s == nil || s.Command != nil {
		return fmt.Errorf("serve: there is no server %q", args[0])
	}
	tcp, err := net.ResolveTCPAddr("tcp4", *addr)
	if err != nil {
		return err
	}
	if !tcp.IP.IsLoopback() {
		return fmt.Errorf("serve: %s is not a loopback address", *addr)
	}
	var ln net.Listener
	if ln, err = net.ListenTCP("tcp4", tcp); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	h := hello{Addr: ln.Addr().String()}
	if *secure {
		var config *tls.Config
		if config, h.Cert, err = certificate(tcp.IP); err != nil {
			return err
		}
		ln = tls.NewListener(ln, config)
	}
	if err := json.NewEncoder(out).Encode(h); err != nil {
		return err
	}
	var stats peer.Stats
	failed := make(chan error, 2)
	go func() { failed <- s.Serve(ln, peer.Mode(*mode), *idle, *ping, &stats) }()
	go func() { failed <- answer(in, out, &stats) }()
	return <-failed
}

// answer answers commands until in ends.
func answer(in io.Reader, out io.Writer, stats *peer.Stats) error {
	lines := bufio.NewScanner(in)
	enc := json.NewEncoder(out)
	for lines.Scan() {
		st := status{Members: stats.Members.Load()}
		if lines.Text() == askMemory {
			// Twice, as pools keep what they hold for one collection.
			runtime.GC()
			runtime.GC()
			debug.FreeOSMemory()
			var err error
			if st.RSS, err = residentBytes(); err != nil {
				return err
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		st.Allocs = m.Mallocs
		var err error
		if st.CPU, err = processTime(); err != nil {
			return err
		}
		if err := enc.Encode(st); err != nil {
			return err
		}
	}
	return lines.Err()
}

// certificate makes one for ip that lasts a day.
func certificate(ip net.IP) (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		IPAddresses:  []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"http/1.1"},
	}, der, nil
}
