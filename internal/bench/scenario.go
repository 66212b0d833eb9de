package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// A scenario is one thing that is measured of every server.
type scenario struct {
	Name  string
	Title string
	mode  peer.Mode
	kind  load.Kind
	tls   bool

	deflate load.Deflate
	echoes  int // of each idle connection; 0: one

	conns, size, frames, outstanding int

	ping time.Duration // silence before a ping
}

// lasts is the window: each connection is pinged in it.
func (s *scenario) lasts(p *plan) time.Duration { return max(p.time, s.ping) }

// What the first column of a scenario's table counts.
const (
	unitMessages   = "messages/s"
	unitMiB        = "MiB/s"
	unitHandshakes = "handshakes/s"
	unitPings      = "pings/s"
	unitBytes      = "bytes/connection"
)

func (s *scenario) unit() string {
	switch {
	case s.kind == load.Upgrade:
		return unitHandshakes
	case s.kind == load.Idle:
		return unitBytes
	case s.kind == load.Keepalive:
		return unitPings
	case s.size >= 1<<20:
		return unitMiB
	}
	return unitMessages
}

// lessIsBetter is so for memory alone.
func (s *scenario) lessIsBetter() bool { return s.kind == load.Idle }

// concerns is false of a server that is there for something else.
func (s *scenario) concerns(p *peer.Server) bool {
	return p.Only == nil || slices.Contains(p.Only, s.mode)
}

// missing says why a server cannot take part, or "".
func (s *scenario) missing(p *peer.Server) string {
	if s.kind == load.Fragments && p.Splits != "" {
		return p.Splits
	}
	if s.tls && p.Plain != "" {
		return p.Plain
	}
	if s.mode == peer.Keepalive && !p.Pings {
		return "it pings nobody by itself"
	}
	return p.Lacks[s.mode]
}

func echo(conns, size, outstanding int) *scenario {
	return &scenario{
		Name:  fmt.Sprintf("echo/c%d/%s/x%d", conns, short(size), outstanding),
		Title: fmt.Sprintf("Echo: %s, %s, %d outstanding", count(conns, "connection"), long(size), outstanding),
		conns: conns, size: size, outstanding: outstanding, mode: peer.Echo, kind: load.Echo,
	}
}

func large(size int, mode peer.Mode) *scenario {
	name, title := "echo", "whole"
	if mode == peer.Stream {
		name, title = "stream", "streamed"
	}
	return &scenario{
		Name:  fmt.Sprintf("large/%s/%s", short(size), name),
		Title: fmt.Sprintf("Large messages: %s, %s, one connection", long(size), title),
		conns: 1, size: size, outstanding: 1, mode: mode, kind: load.Echo,
	}
}

func fanout(members, outstanding int) *scenario {
	return &scenario{
		Name:  fmt.Sprintf("fanout/%d/x%d", members, outstanding),
		Title: fmt.Sprintf("Fan-out: 125 bytes to %d members, %d in flight", members, outstanding),
		conns: members, size: 125, outstanding: outstanding, mode: peer.Fanout, kind: load.Fanout,
	}
}

// keepalive is how connections spend most of their lives. A shorter interval
// than usual shows in a short run what pings cost.
func keepalive(interval time.Duration) *scenario {
	// Each connection is a descriptor here and one in the server.
	conns := min(15_000, descriptors()-100)
	return &scenario{
		Name:  "keepalive/" + interval.String(),
		Title: fmt.Sprintf("Keepalive: %d idle connections, pinged after %v", conns, interval),
		conns: conns, size: 8, ping: interval, mode: peer.Keepalive, kind: load.Keepalive,
	}
}

// takeover says what of permessage-deflate a mode is about.
func takeover(mode peer.Mode) (load.Deflate, string) {
	if mode == peer.DeflateTakeover {
		return load.Takeover, "with context takeover"
	}
	return load.NoTakeover, "without context takeover"
}

func deflate(size int, mode peer.Mode) *scenario {
	kind, how := takeover(mode)
	return &scenario{
		Name:  fmt.Sprintf("%s/%s", mode, short(size)),
		Title: fmt.Sprintf("Compressed echo: %s of text, %s, 64 connections", long(size), how),
		conns: 64, size: size, outstanding: 1, mode: mode, kind: load.Echo, deflate: kind,
	}
}

func deflateMemory(conns, echoes int, mode peer.Mode) *scenario {
	kind, how := takeover(mode)
	name := "memory-" + string(mode)
	if echoes > 1 {
		name += fmt.Sprintf("/x%d", echoes)
	}
	return &scenario{
		Name:  name,
		Title: fmt.Sprintf("Idle memory with compression: %s, %s, after %s of 1 KiB each", count(conns, "connection"), how, count(echoes, "echo")),
		conns: conns, size: 1 << 10, mode: mode, kind: load.Idle, deflate: kind, echoes: echoes,
	}
}

// fullWindow is enough messages of 1 KiB for every window to be full.
const fullWindow = 40

// idleTakeover is fewer connections, as there are servers that keep far more of
// each.
const idleTakeover = 2000

// idleConns is enough for what one connection holds to stand out from the
// noise of the process.
const idleConns = 10_000

// scenarios are those that are run unless others are asked for.
func scenarios() []*scenario {
	list := []*scenario{
		echo(64, 125, 1),
		echo(64, 125, 16),
		echo(64, 1<<10, 16),
		{
			Name:  "writers",
			Title: fmt.Sprintf("Concurrent writers: %d goroutines, 125 bytes each, one connection", peer.WriterCount),
			conns: 1, size: 125, mode: peer.Writers, kind: load.Receive,
		},
		fanout(1000, 1), fanout(1000, 8),
		fanout(10_000, 1), fanout(10_000, 8),
	}
	for _, size := range []int{1 << 20, 16 << 20} {
		list = append(list, large(size, peer.Large), large(size, peer.Stream))
	}
	return append(list,
		&scenario{
			Name:  "fragments",
			Title: "Fragments: 2 KiB of text in 16 frames, pings between, 64 connections",
			conns: 64, size: 2 << 10, frames: 16, outstanding: 1, mode: peer.Echo, kind: load.Fragments,
		},
		&scenario{
			Name: "upgrade", Title: "Upgrades: connections opened and dropped, 32 at a time",
			conns: 32, mode: peer.Upgrade, kind: load.Upgrade,
		},
		&scenario{
			Name: "memory", Title: fmt.Sprintf("Idle memory: %d connections after one echo each", idleConns),
			conns: idleConns, size: 125, mode: peer.Echo, kind: load.Idle,
		},
		deflate(1<<10, peer.Deflate), deflate(1<<10, peer.DeflateTakeover),
		deflate(16<<10, peer.Deflate), deflate(16<<10, peer.DeflateTakeover),
		deflateMemory(idleConns, 1, peer.Deflate), deflateMemory(idleTakeover, 1, peer.DeflateTakeover),
		keepalive(3*time.Second),
		&scenario{
			Name: "tls", Title: "TLS echo: 64 connections, 1 KiB, 1 outstanding",
			conns: 64, size: 1 << 10, outstanding: 1, mode: peer.Echo, kind: load.Echo, tls: true,
		})
}

// matrix is every echo, also with compression, and keepalive as it is by default.
func matrix() []*scenario {
	list := []*scenario{keepalive(30 * time.Second), deflateMemory(idleTakeover, fullWindow, peer.DeflateTakeover)}
	for _, mode := range []peer.Mode{peer.Deflate, peer.DeflateTakeover} {
		for _, size := range []int{256, 4 << 10, 8 << 10, 64 << 10} {
			list = append(list, deflate(size, mode))
		}
	}
	for _, conns := range []int{1, 100, 1000} {
		for _, size := range []int{16, 125, 1 << 10, 16 << 10} {
			for _, outstanding := range []int{1, 16} {
				list = append(list, echo(conns, size, outstanding))
			}
		}
	}
	return list
}

func short(size int) string {
	switch {
	case size >= 1<<20:
		return fmt.Sprintf("%dMiB", size>>20)
	case size >= 1<<10:
		return fmt.Sprintf("%dKiB", size>>10)
	}
	return fmt.Sprintf("%dB", size)
}

func long(size int) string {
	switch {
	case size >= 1<<20:
		return fmt.Sprintf("%d MiB", size>>20)
	case size >= 1<<10:
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%d bytes", size)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "o") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}
