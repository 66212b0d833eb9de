package main

import (
	"fmt"

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

	conns, size, frames, outstanding int
}

// What the first column of a scenario's table counts.
const (
	unitMessages   = "messages/s"
	unitMiB        = "MiB/s"
	unitHandshakes = "handshakes/s"
	unitBytes      = "bytes/connection"
)

func (s *scenario) unit() string {
	switch {
	case s.kind == load.Upgrade:
		return unitHandshakes
	case s.kind == load.Idle:
		return unitBytes
	case s.size >= 1<<20:
		return unitMiB
	}
	return unitMessages
}

// lessIsBetter is so for memory alone.
func (s *scenario) lessIsBetter() bool { return s.kind == load.Idle }

// missing says why a server cannot take part, or "".
func (s *scenario) missing(p *peer.Server) string {
	if s.kind == load.Fragments && p.Splits != "" {
		return p.Splits
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
	title := "whole"
	if mode == peer.Stream {
		title = "streamed"
	}
	return &scenario{
		Name:  fmt.Sprintf("large/%s/%s", short(size), mode),
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
			Title: fmt.Sprintf("Concurrent writers: %d goroutines write 125 bytes each to one connection", peer.WriterCount),
			conns: 1, size: 125, mode: peer.Writers, kind: load.Receive,
		},
		fanout(1000, 1), fanout(1000, 8),
		fanout(10_000, 1), fanout(10_000, 8),
	}
	for _, size := range []int{1 << 20, 16 << 20} {
		list = append(list, large(size, peer.Echo), large(size, peer.Stream))
	}
	return append(list,
		&scenario{
			Name:  "fragments",
			Title: "Fragments: text of 2 KiB in 16 frames with a ping between each two, 64 connections",
			conns: 64, size: 2 << 10, frames: 16, outstanding: 1, mode: peer.Echo, kind: load.Fragments,
		},
		&scenario{
			Name: "upgrade", Title: "Upgrades: connections opened and dropped, 32 at a time",
			conns: 32, mode: peer.Upgrade, kind: load.Upgrade,
		},
		&scenario{
			Name: "memory", Title: fmt.Sprintf("Idle memory: resident bytes for each of %d connections after one echo", idleConns),
			conns: idleConns, size: 125, mode: peer.Echo, kind: load.Idle,
		},
		&scenario{
			Name: "tls", Title: "TLS echo: 64 connections, 1 KiB, 1 outstanding",
			conns: 64, size: 1 << 10, outstanding: 1, mode: peer.Echo, kind: load.Echo, tls: true,
		})
}

// matrix is every echo.
func matrix() []*scenario {
	var list []*scenario
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
	return fmt.Sprintf("%d %ss", n, what)
}
