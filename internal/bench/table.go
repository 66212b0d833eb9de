package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
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
	fmt.Fprintf(b, "- %d rounds of %v after a warm-up of %v; medians, ratios round by round with their extremes\n", p.rounds, p.time, p.warm)
	b.WriteString("- CPU is the server's time for each message: of raw's or a peer's, below 1.00 is better; so is p99. Otherwise above 1.00 is better\n\n")
	summary(b, results)
	for _, r := range results {
		scenarioTable(b, r, results)
	}
	b.WriteString("## Servers\n\n")
	serverTable(b, p.servers)
	return b.String()
}

// summary is a line of the library's own figures for each scenario. The best
// peer need not be the same in each column.
func summary(b *strings.Builder, results []*result) {
	fmt.Fprintf(b, "## %s in short\n\n", own())
	t := newTable(b, "scenario", "CPU of raw", "CPU of best peer by CPU", "p99 of best peer by p99", own(), "of raw", "of best peer")
	for _, r := range results {
		o := r.find(own())
		if len(o.Samples) == 0 {
			continue
		}
		byCPU, byP99 := r.best(cpu, true), r.best(p99, true)
		t.row("`"+r.Scenario+"`", r.cpuToRaw(o).String(),
			against(paired(o, byCPU, cpu, false), byCPU), against(paired(o, byP99, p99, false), byP99),
			number(medianOf(o, value))+" "+r.scenario.unit(), r.toRaw(o).String(), against(r.toBest(o), r.bestPeer()))
	}
	b.WriteString("\n")
}

// against names the peer that a ratio is to.
func against(q ratio, o *outcome) string {
	if q.rounds == 0 {
		return q.String()
	}
	return q.String() + " " + o.Server
}

func scenarioTable(b *strings.Builder, r *result, results []*result) {
	fmt.Fprintf(b, "## %s\n\n`%s`\n\n", r.scenario.Title, r.Scenario)
	columns := []string{"server", "CPU µs each", "CPU of raw"}
	also := r.also(results)
	for _, c := range also {
		columns = append(columns, c.head)
	}
	columns = append(columns, r.scenario.unit(), "of raw", "of best peer", "p50 µs", "p99 µs", "p99.9 µs")
	t := newTable(b, columns...)
	for _, o := range r.Outcomes {
		cells := []string{o.Server}
		if len(o.Samples) > 0 {
			cells = append(cells, micros(medianOf(o, func(s sample) time.Duration { return s.CPU })), r.cpuToRaw(o).String())
			for _, c := range also {
				cells = append(cells, c.cell(o))
			}
			cells = append(cells, number(medianOf(o, value)), r.toRaw(o).String(), r.toBest(o).String(),
				micros(medianOf(o, func(s sample) time.Duration { return s.P50 })),
				micros(medianOf(o, func(s sample) time.Duration { return s.P99 })),
				micros(medianOf(o, func(s sample) time.Duration { return s.P999 })))
		}
		for len(cells) < len(columns) {
			cells = append(cells, "–")
		}
		t.row(cells...)
	}
	if inTurn := r.inTurn(results); inTurn != nil {
		fmt.Fprintf(b, "\nWith several messages in flight, %s writes together what has come together. \"At x1\" compares with its time in `%s`, where it writes each message by itself.\n", raw(), inTurn.Scenario)
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

// A column is one that not all tables have.
type column struct {
	head string
	cell func(*outcome) string
}

// also are the columns of this scenario alone.
func (r *result) also(results []*result) []column {
	if inTurn := r.inTurn(results); inTurn != nil {
		return []column{{"CPU of raw at x1", func(o *outcome) string { return paired(o, inTurn.find(raw()), cpu, false).String() }}}
	}
	if r.scenario.deflate != load.NoDeflate && r.scenario.kind == load.Echo {
		best := r.best(cpu, true)
		return []column{
			{"CPU of best peer", func(o *outcome) string { return paired(o, best, cpu, false).String() }},
			{"compressed to", func(o *outcome) string { return fmt.Sprintf("%.3f", medianOf(o, packed)) }},
		}
	}
	if r.scenario.kind != load.Upgrade {
		return nil
	}
	base := r.find(hijack())
	return []column{
		{"CPU of " + hijack(), func(o *outcome) string { return paired(o, base, cpu, false).String() }},
		{"allocations", func(o *outcome) string { return number(medianOf(o, allocs)) }},
		{"more than " + hijack(), func(o *outcome) string {
			if len(base.Samples) == 0 {
				return "–"
			}
			return fmt.Sprintf("%+.1f", more(o, base, allocs))
		}},
	}
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
func machine(now time.Time, cpus int) []string {
	procs := os.Getenv("GOMAXPROCS")
	if cpus > 0 {
		procs = fmt.Sprint(cpus)
	} else if procs == "" {
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
