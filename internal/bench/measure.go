package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// A sample is what one run of one server has shown.
type sample struct {
	Round          int
	Value          float64       // in the scenario's unit
	CPU            time.Duration // of the server, for each message
	Allocs         float64       // of the server, for each message
	Ratio          float64       `json:",omitempty"` // of the payload to what it is before compression
	P50, P99, P999 time.Duration // 0 where there is no latency to measure
}

// An outcome is all samples of one server in one scenario.
type outcome struct {
	Server  string
	Samples []sample
	Problem string `json:",omitempty"` // why there are none, or no more
	absent  bool   // the library cannot do it
}

// A result is one scenario's outcomes.
type result struct {
	Scenario string
	scenario *scenario
	Outcomes []*outcome
}

type plan struct {
	scenarios []*scenario
	servers   []*peer.Server
	rounds    int
	cpus      int    // GOMAXPROCS of the servers; 0: as in the environment
	profiles  string // directory for CPU profiles of the servers; "": none
	warm      time.Duration
	time      time.Duration
}

// patience is what a run may take besides its warm-up and window: to start
// the server, to open ten thousand connections on a busy machine, to end.
const patience = 60 * time.Second

// duration is what the plan takes about.
func (p *plan) duration() time.Duration {
	var sum time.Duration
	for _, s := range p.scenarios {
		for _, server := range p.servers {
			if s.concerns(server) && s.missing(server) == "" {
				sum += p.warm + s.lasts(p) + s.ping + 300*time.Millisecond + time.Duration(s.conns)*200*time.Microsecond
			}
		}
	}
	return sum * time.Duration(p.rounds)
}

// run measures everything: each scenario in rounds, in each of which every
// server has its turn, so that a machine whose speed drifts is unfair to none.
// When ctx ends it returns what there is by then.
func (p *plan) run(ctx context.Context, progress io.Writer) []*result {
	var results []*result
	for i, s := range p.scenarios {
		r := &result{Scenario: s.Name, scenario: s}
		var servers []*peer.Server
		for _, server := range p.servers {
			if !s.concerns(server) {
				continue
			}
			servers = append(servers, server)
			o := &outcome{Server: server.Name, Problem: s.missing(server)}
			o.absent = o.Problem != ""
			r.Outcomes = append(r.Outcomes, o)
		}
		results = append(results, r)
		for round := range p.rounds {
			for j, server := range servers {
				o := r.Outcomes[j]
				if o.Problem != "" {
					continue
				}
				fmt.Fprintf(progress, "%d/%d %s, round %d of %d, %s: ", i+1, len(p.scenarios), s.Name, round+1, p.rounds, server.Name)
				one, err := p.measure(ctx, s, server)
				if ctx.Err() != nil {
					fmt.Fprintln(progress, "interrupted")
					return results
				}
				if err != nil {
					o.Problem = firstLine(err)
					fmt.Fprintln(progress, "failed:", err)
					continue
				}
				fmt.Fprintln(progress, number(one.Value), s.unit())
				one.Round = round
				o.Samples = append(o.Samples, *one)
			}
		}
	}
	return results
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// measure runs one server once.
func (p *plan) measure(ctx context.Context, s *scenario, server *peer.Server) (*sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.warm+s.ping+s.lasts(p)+patience, fmt.Errorf("it takes longer than %v", patience))
	defer cancel()
	proc, err := start(ctx, server, s, p.cpus, p.profile(s, server))
	if err != nil {
		return nil, err
	}
	defer proc.stop()

	var before, after status
	o := load.Options{
		Addr: proc.Addr, Cert: proc.Cert, Kind: s.kind, Raw: server.Raw,
		Conns: s.conns, Size: s.size, Frames: s.frames, Outstanding: s.outstanding,
		Warm: p.warm, Time: s.lasts(p), Deflate: s.deflate, Echoes: s.echoes,
	}
	o.Begin = func() (err error) { before, err = proc.ask(askStatus); return err }
	o.End = func() (err error) { after, err = proc.ask(askStatus); return err }
	switch s.kind {
	case load.Fanout:
		o.Opened = func() error { return joined(ctx, proc, s.conns) }
	case load.Idle:
		if before, err = proc.ask(askMemory); err != nil {
			return nil, err
		}
		o.Opened = func() (err error) { after, err = proc.ask(askMemory); return err }
	}
	res, err := load.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	if s.kind == load.Idle {
		return &sample{Value: float64(after.RSS-before.RSS) / float64(s.conns)}, nil
	}
	one := &sample{
		Value:  float64(res.Messages) / res.Elapsed.Seconds(),
		CPU:    (after.CPU - before.CPU) / time.Duration(res.Messages),
		Allocs: float64(after.Allocs-before.Allocs) / float64(res.Messages),
		P50:    res.Latency.Quantile(0.5),
		P99:    res.Latency.Quantile(0.99),
		P999:   res.Latency.Quantile(0.999),
	}
	if res.Plain > 0 {
		one.Ratio = float64(res.Received) / float64(res.Plain)
	}
	if s.unit() == unitMiB {
		one.Value *= float64(s.size) / (1 << 20)
	}
	return one, nil
}

// profile is the file for that of a server, the last round's in the end.
func (p *plan) profile(s *scenario, server *peer.Server) string {
	if p.profiles == "" {
		return ""
	}
	return filepath.Join(p.profiles, strings.ReplaceAll(s.Name, "/", "-")+"-"+server.Name+".pprof")
}

// joined waits until a fan-out reaches all connections: a server may answer
// the handshake first.
func joined(ctx context.Context, proc *process, members int) error {
	for {
		st, err := proc.ask(askStatus)
		if err != nil {
			return err
		}
		if st.Members >= int64(members) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
