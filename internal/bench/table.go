package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// A table is a Markdown one.
type table struct{ b *strings.Builder }

func newTable(b *strings.Builder, columns ...string) table {
	t := table{b}
	t.row(columns...)
	t.b.WriteString("|---|" + strings.Repeat("---:|", len(columns)-1) + "\n")
	return t
}

func (t table) row(cells ...string) {
	for _, c := range cells {
		t.b.WriteString("| " + strings.ReplaceAll(c, "|", "\\|") + " ")
	}
	t.b.WriteString("|\n")
}

// markdown is the whole report.
func markdown(p *plan, results []*result, machine []string) string {
	b := new(strings.Builder)
	b.WriteString("# Measurements\n\n")
	for _, line := range machine {
		fmt.Fprintf(b, "- %s\n", line)
	}
	fmt.Fprintf(b, "- %d rounds of %v after a warm-up of %v; medians, ratios round by round with their extremes; above 1.00 is better\n\n", p.rounds, p.time, p.warm)
	summary(b, results)
	for _, r := range results {
		scenarioTable(b, r)
	}
	b.WriteString("## Servers\n\n")
	serverTable(b, p.servers)
	return b.String()
}

// summary is a line of the library's own figures for each scenario.
func summary(b *strings.Builder, results []*result) {
	fmt.Fprintf(b, "## %s in short\n\n", own())
	t := newTable(b, "scenario", own(), "of raw", "of best peer", "CPU of best peer's", "best peer")
	for _, r := range results {
		o, best := r.find(own()), r.bestPeer()
		if len(o.Samples) == 0 {
			continue
		}
		cpu := paired(best, o, func(s sample) float64 { return float64(s.CPU) }, false)
		name := best.Server
		if name == "" {
			name = "–"
		}
		t.row("`"+r.Scenario+"`", number(medianOf(o, value))+" "+r.scenario.unit(), r.toRaw(o).String(), r.toBest(o).String(), cpu.String(), name)
	}
	b.WriteString("\nCPU is the best peer's time for a message divided by " + own() + "'s, so that above 1.00 is better there, too.\n\n")
}

func scenarioTable(b *strings.Builder, r *result) {
	fmt.Fprintf(b, "## %s\n\n`%s`\n\n", r.scenario.Title, r.Scenario)
	t := newTable(b, "server", r.scenario.unit(), "of raw", "of best peer", "CPU µs each", "p50 µs", "p99 µs", "p99.9 µs")
	for _, o := range r.Outcomes {
		if len(o.Samples) == 0 {
			t.row(o.Server, "–", "–", "–", "–", "–", "–", "–")
			continue
		}
		t.row(o.Server, number(medianOf(o, value)), r.toRaw(o).String(), r.toBest(o).String(),
			micros(medianOf(o, func(s sample) time.Duration { return s.CPU })),
			micros(medianOf(o, func(s sample) time.Duration { return s.P50 })),
			micros(medianOf(o, func(s sample) time.Duration { return s.P99 })),
			micros(medianOf(o, func(s sample) time.Duration { return s.P999 })))
	}
	b.WriteString("\n")
	for _, o := range r.Outcomes {
		switch {
		case o.absent:
			fmt.Fprintf(b, "%s takes no part: %s.\n", o.Server, o.Problem)
		case o.Problem != "":
			fmt.Fprintf(b, "%s failed after %d rounds: %s.\n", o.Server, len(o.Samples), o.Problem)
		}
	}
	b.WriteString("\n")
}

// serverTable says how each server is used and where that is documented.
func serverTable(b *strings.Builder, servers []*peer.Server) {
	b.WriteString("| server | use | documented at |\n|---|---|---|\n")
	for _, s := range servers {
		b.WriteString(serverRow(s) + "\n")
	}
	b.WriteString("\n| server | module | version |\n|---|---|---|\n")
	versions := moduleVersions()
	for _, s := range servers {
		if s.Module != "" {
			table{b}.row(s.Name, s.Module, versions[s.Module])
		}
	}
}

func serverRow(s *peer.Server) string {
	page := s.Page
	if strings.HasPrefix(page, "https://") {
		page = "<" + page + ">"
	}
	return fmt.Sprintf("| %s | %s | %s |", s.Name, s.Settings, page)
}

func moduleVersions() map[string]string {
	versions := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
			if m.Replace != nil {
				versions[m.Path] = "this tree"
			}
		}
	}
	return versions
}

// machine describes where and when this runs.
func machine(now time.Time) []string {
	procs := os.Getenv("GOMAXPROCS")
	if procs == "" {
		procs = fmt.Sprint(runtime.GOMAXPROCS(0))
	}
	lines := []string{
		now.UTC().Format("2006-01-02 15:04 UTC"),
		fmt.Sprintf("%s %s/%s, %d CPUs, GOMAXPROCS=%s for each server", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), procs),
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name"); ok {
			name, _, _ := strings.Cut(rest, "\n")
			lines = append(lines, strings.Trim(name, "\t :"))
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 2 {
			lines = append(lines, "load averages before the start: "+strings.Join(f[:3], ", "))
		}
	}
	return lines
}
