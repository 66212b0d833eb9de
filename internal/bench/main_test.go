package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// The servers that the tests start are this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestServers runs every server through every kind of load for a moment; the
// generator checks the answers.
func TestServers(t *testing.T) {
	if _, err := processTime(); err != nil {
		t.Skip(err)
	}
	p := &plan{warm: 2 * time.Millisecond, time: 10 * time.Millisecond}
	list := []*scenario{
		echo(3, 125, 4), large(300<<10, peer.Large), large(300<<10, peer.Stream), fanout(5, 3),
		{Name: "writers", conns: 1, size: 125, mode: peer.Writers, kind: load.Receive},
		{Name: "fragments", conns: 2, size: 2 << 10, frames: 16, mode: peer.Echo, kind: load.Fragments},
		{Name: "upgrade", conns: 2, mode: peer.Upgrade, kind: load.Upgrade},
		{Name: "memory", conns: 10, size: 125, mode: peer.Echo, kind: load.Idle},
		{Name: "tls", conns: 2, size: 1 << 10, outstanding: 2, mode: peer.Echo, kind: load.Echo, tls: true},
		deflate(1<<10, peer.Deflate), deflate(1<<10, peer.DeflateTakeover), deflate(64<<10, peer.Deflate), deflate(64<<10, peer.DeflateTakeover),
		deflateMemory(3, 1, peer.Deflate), deflateMemory(3, 5, peer.DeflateTakeover),
		{Name: "keepalive", conns: 5, size: 8, ping: 50 * time.Millisecond, mode: peer.Keepalive, kind: load.Keepalive},
	}
	for _, server := range slices.Concat(peer.All, peer.Optional) {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			if _, err := chooseServers(t.Context(), server.Name); err != nil {
				t.Skip(err)
			}
			for _, s := range list {
				if !s.concerns(server) || s.missing(server) != "" {
					continue
				}
				one, err := p.measure(t.Context(), s, server)
				if err != nil {
					t.Errorf("%s: %v", s.Name, err)
					continue
				}
				if one.Value <= 0 && s.kind != load.Idle {
					t.Errorf("%s: %v %s", s.Name, one.Value, s.unit())
				}
				if s.deflate != load.NoDeflate && s.kind == load.Echo && (one.Ratio < 0.1 || one.Ratio > 0.7) {
					t.Errorf("%s: compressed to %.3f", s.Name, one.Ratio)
				}
			}
		})
	}
}

// What a server is said to lack it does lack.
func TestLacking(t *testing.T) {
	if _, err := processTime(); err != nil {
		t.Skip(err)
	}
	p := &plan{time: 10 * time.Millisecond}
	s := &scenario{conns: 1, size: 2 << 10, frames: 16, mode: peer.Echo, kind: load.Fragments}
	if _, err := p.measure(t.Context(), s, peer.ByName("xnet")); err == nil {
		t.Error("xnet echoes fragmented messages")
	}
	for _, server := range peer.All {
		for _, s := range []*scenario{deflate(1<<10, peer.Deflate), deflate(1<<10, peer.DeflateTakeover)} {
			if !s.concerns(server) || s.missing(server) == "" {
				continue
			}
			if _, err := p.measure(t.Context(), s, server); err == nil {
				t.Errorf("%s takes part in %s", server.Name, s.Name)
			}
		}
	}
}

func TestCommand(t *testing.T) {
	if _, err := processTime(); err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "results")
	var out, progress bytes.Buffer
	err := bench(t.Context(), []string{"-rounds", "1", "-time", "10ms", "-only", "echo/c1/16B/x1,upgrade", "-peers", "gorilla", "-out", dir}, &out, &progress)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `echo/c1/16B/x1` |", "| gorilla |", "| raw |", "| sockeye |", "`upgrade`"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "failed") {
		t.Errorf("the report tells of failures:\n%s", &out)
	}
	for _, name := range []string{"results.md", "results.json", "ratios.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// An interrupted run ends at once and reports what there is.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	err := bench(ctx, []string{"-rounds", "1", "-time", "1h", "-only", "echo/c64/125B/x1"}, &out, io.Discard)
	if err == nil || !strings.Contains(out.String(), "# Measurements") {
		t.Errorf("%v, report %q", err, &out)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		{"-only", "nothing"}, {"-only", ","}, {"-peers", "nobody"}, {"-rounds", "0"}, {"-time", "0"}, {"-cpus", "-1"}, {"more"},
	} {
		if err := bench(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	for _, args := range [][]string{{}, {"nobody"}, {"uws"}, {"raw", "-addr", "0.0.0.0:0"}} {
		if err := serve(args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("serve %q is accepted", args)
		}
	}
}

func TestScenarioNames(t *testing.T) {
	var names []string
	for _, s := range append(scenarios(), matrix()...) {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(scenarios())+len(matrix()) {
		t.Errorf("a name is used twice: %q", names)
	}
	chosen, err := choose("echo/c1/,tls,echo/c1/16B")
	if err != nil || len(chosen) != 9 {
		t.Errorf("%d scenarios, %v", len(chosen), err)
	}
}

func samples(values ...float64) []sample {
	var list []sample
	for i, v := range values {
		if v > 0 {
			cost := time.Duration(1e6 / v)
			list = append(list, sample{Round: i, Value: v, CPU: cost, P99: 10 * cost})
		}
	}
	return list
}

func made(s *scenario) *result {
	return &result{Scenario: s.Name, scenario: s, Outcomes: []*outcome{
		{Server: "sockeye", Samples: samples(90, 45, 300)},
		{Server: "raw", Samples: samples(100, 100, 200)},
		{Server: "gorilla", Samples: samples(60, 60, 60)},
		{Server: "coder", Samples: samples(50, 0, 100)},
		{Server: "xnet", Problem: "a reason", absent: true},
		{Server: "gws", Problem: "message 1: <&|", Samples: samples(10)},
	}}
}

func TestRatios(t *testing.T) {
	r := made(echo(1, 16, 1))
	tests := []struct {
		name string
		got  ratio
		want string
	}{
		{"to raw", r.toRaw(r.find("sockeye")), "0.90 (0.45–1.50)"},
		{"to the best peer, in the rounds that it has", r.toBest(r.find("sockeye")), "2.40"},
		{"of itself", r.toBest(r.find("coder")), "1.00"},
		{"of what is missing", r.toRaw(r.find("xnet")), "–"},
		{"CPU to raw", r.cpuToRaw(r.find("sockeye")), "1.11 (0.67–2.22)"},
		{"CPU to the best by CPU", paired(r.find("sockeye"), r.best(cpu, true), cpu, false), "0.44"},
	}
	for _, tt := range tests {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if best := r.bestPeer().Server; best != "coder" {
		t.Errorf("the best peer is %q", best)
	}
	memory := made(&scenario{Name: "memory", kind: load.Idle})
	for _, o := range memory.Outcomes {
		for i := range o.Samples {
			o.Samples[i].CPU, o.Samples[i].P99 = 0, 0
		}
	}
	if best := memory.best(cpu, true).Server; best != "" {
		t.Errorf("without a measured CPU time the best is %q", best)
	}
	if best := memory.bestPeer().Server; best != "gws" {
		t.Errorf("the one with the least memory is %q", best)
	}
	if got := memory.toRaw(memory.find("gorilla")).String(); got != "1.67 (1.67–3.33)" {
		t.Errorf("ratio of memory: %s", got)
	}
	if empty := (&result{scenario: echo(1, 16, 1)}); empty.bestPeer().Server != "" || empty.toRaw(empty.find("raw")).rounds != 0 {
		t.Error("an empty result has a best peer")
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		xs   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}} {
		if got := median(tt.xs); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("median is %v, want %v", got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0.5: "0.50", 9.999: "10.00", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567"} {
		if got := number(x); got != want {
			t.Errorf("%v is %s, want %s", x, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	p := &plan{rounds: 3, time: time.Second, servers: peer.All}
	got := markdown(p, []*result{made(echo(1, 16, 1))}, []string{"a machine"})
	for _, want := range []string{
		"| `echo/c1/16B/x1` | 1.11 (0.67–2.22) | 0.44 coder | 0.44 coder | 90.0 messages/s | 0.90 (0.45–1.50) | 2.40 coder |",
		"| xnet | – | – | – | – | – | – | – | – |",
		"xnet takes no part: a reason.",
		"gws failed after 1 rounds: message 1: <&|.",
		"<https://github.com/lxzan/gws#best-practice>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// A fan-out with more in flight is compared with raw's of one in flight, too.
func TestInTurn(t *testing.T) {
	one, eight := made(fanout(10, 1)), made(fanout(10, 8))
	one.find("raw").Samples = samples(10, 10, 10)
	p := &plan{rounds: 3, servers: peer.All}
	got := markdown(p, []*result{one, eight}, nil)
	for _, want := range []string{
		"| server | CPU µs each | CPU of raw | CPU of raw at x1 |",
		"| sockeye | 11.1 | 1.11 (0.67–2.22) | 0.11 (0.03–0.22) |",
		"in `fanout/10/x1`",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Count(got, "at x1 |") != 1 || strings.Contains(markdown(p, []*result{eight}, nil), "at x1 |") {
		t.Error("there is a comparison with what is not there")
	}
}

// Upgrades are compared with net/http itself, also in allocations.
func TestUpgradeTable(t *testing.T) {
	r := made(&scenario{Name: "upgrade", kind: load.Upgrade})
	r.Outcomes = append(r.Outcomes, &outcome{Server: "hijack", Samples: samples(100, 90, 300)})
	for i, each := range []float64{60, 64, 61} {
		r.find("sockeye").Samples[i].Allocs = each
		r.find("hijack").Samples[i].Allocs = 50
	}
	p := &plan{rounds: 3, servers: peer.All}
	want := "| sockeye | 11.1 | 1.11 (0.67–2.22) | 1.11 (1.00–2.00) | 61.0 | +11.0 |"
	if got := markdown(p, []*result{r}, nil); !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	if best := r.bestPeer().Server; best == "hijack" {
		t.Error("hijack is a peer")
	}
	r.Outcomes = r.Outcomes[:len(r.Outcomes)-1]
	if got := markdown(p, []*result{r}, nil); !strings.Contains(got, "| 61.0 | – |") {
		t.Errorf("compared with what is not there:\n%s", got)
	}
}

// With compression the table also says how small messages become.
func TestDeflateTable(t *testing.T) {
	r := made(deflate(1<<10, peer.Deflate))
	for i := range 3 {
		r.find("sockeye").Samples[i].Ratio = 0.25
	}
	p := &plan{rounds: 3, servers: peer.All}
	got := markdown(p, []*result{r}, nil)
	for _, want := range []string{
		"| server | CPU µs each | CPU of raw | CPU of best peer | compressed to |",
		"| sockeye | 11.1 | 1.11 (0.67–2.22) | 0.44 | 0.250 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// The README has the table of servers as the report does.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slices.Concat(peer.All, peer.Optional) {
		if row := serverRow(s); !strings.Contains(string(readme), row+"\n") {
			t.Errorf("README.md has no line\n%s", row)
		}
	}
}

func TestChart(t *testing.T) {
	s := echo(1, 16, 1)
	s.Title = "less < & more"
	svg := chart([]*result{made(s), {scenario: s}})
	dec := xml.NewDecoder(strings.NewReader(svg))
	elements := make(map[string]int)
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
		}
	}
	// A background and five bars, one of them too long.
	if elements["svg"] != 1 || elements["rect"] != 6 || elements["line"] != 1 || elements["path"] != 1 {
		t.Errorf("elements: %v", elements)
	}
	if beside := chart([]*result{made(fanout(1000, 1)), made(s)}); strings.Contains(beside, "less &lt;") {
		t.Error("what is only asked for takes room beside what is always measured")
	}
	memory := made(&scenario{Name: "memory", kind: load.Idle})
	for _, o := range memory.Outcomes {
		for i := range o.Samples {
			o.Samples[i].CPU = 0
		}
	}
	svg = chart([]*result{memory})
	if !strings.Contains(svg, ">bytes/connection<") || !strings.Contains(svg, ">90.0<") {
		t.Errorf("the chart has no bytes:\n%s", svg)
	}
}
