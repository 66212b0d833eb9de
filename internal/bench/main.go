// Command bench compares the library with its peers, each in a process of its
// own, under the load of one generator. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		return serve(args[1:], os.Stdin, os.Stdout)
	}
	return bench(ctx, args, os.Stdout, os.Stderr)
}

// bench measures and reports. It reports what there is when ctx ends.
func bench(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	p := &plan{}
	flags.IntVar(&p.rounds, "rounds", 3, "`rounds` of each scenario; every server has a turn in each")
	flags.DurationVar(&p.time, "time", time.Second, "the measured window of each turn")
	flags.DurationVar(&p.warm, "warm", -1, "load before it; a quarter of it if negative")
	flags.IntVar(&p.cpus, "cpus", 0, "GOMAXPROCS of the `servers`; 0: as in the environment")
	only := flags.String("only", "", "comma-separated `beginnings` of the scenarios' names, those of the echo matrix included")
	peers := flags.String("peers", "", "comma-separated `names` of the servers; sockeye, raw and hijack are always there")
	dir := flags.String("out", "", "`directory` for results.md, results.json and ratios.svg")
	flags.StringVar(&p.profiles, "profiles", "", "`directory` for CPU profiles of the servers in Go")
	list := flags.Bool("list", false, "list scenarios and servers and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *list {
		return printList(out)
	}
	if p.rounds < 1 || p.time <= 0 || p.cpus < 0 {
		return errors.New("there is nothing to measure")
	}
	if p.warm < 0 {
		p.warm = p.time / 4
	}
	var err error
	if p.scenarios, err = choose(*only); err != nil {
		return err
	}
	if p.servers, err = chooseServers(ctx, *peers); err != nil {
		return err
	}
	if *dir != "" {
		if err := os.MkdirAll(*dir, 0o777); err != nil {
			return err
		}
	}
	if p.profiles != "" {
		if err := os.MkdirAll(p.profiles, 0o777); err != nil {
			return err
		}
	}
	where := machine(time.Now(), p.cpus)
	fmt.Fprintf(progress, "%d scenarios, %d servers, %d rounds: about %v\n", len(p.scenarios), len(p.servers), p.rounds, p.duration().Round(time.Second))
	results := p.run(ctx, progress)
	report := markdown(p, results, where)
	if _, err := io.WriteString(out, report); err != nil {
		return err
	}
	if *dir != "" {
		if err := save(*dir, report, results); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func save(dir, report string, results []*result) error {
	raw, err := json.MarshalIndent(results, "", "\t")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"results.md": report, "results.json": string(raw) + "\n", "ratios.svg": chart(results)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the scenarios whose names begin with one of those in only.
func choose(only string) ([]*scenario, error) {
	if only == "" {
		return scenarios(), nil
	}
	var chosen []*scenario
	for begin := range strings.SplitSeq(only, ",") {
		found := false
		for _, s := range append(scenarios(), matrix()...) {
			if begin == "" || !strings.HasPrefix(s.Name, begin) {
				continue
			}
			found = true
			known := false
			for _, c := range chosen {
				known = known || c.Name == s.Name
			}
			if !known {
				chosen = append(chosen, s)
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario begins with %q; -list lists them", begin)
		}
	}
	return chosen, nil
}

// chooseServers returns the three fixed ones and the named peers, or all but the
// optional ones. Those must start.
func chooseServers(ctx context.Context, names string) ([]*peer.Server, error) {
	if names == "" {
		return peer.All, nil
	}
	chosen := map[string]bool{own(): true, raw(): true, hijack(): true}
	for name := range strings.SplitSeq(names, ",") {
		if peer.ByName(name) == nil {
			return nil, fmt.Errorf("there is no server %q; -list lists them", name)
		}
		chosen[name] = true
	}
	servers := slices.Concat(peer.All, peer.Optional)
	servers = slices.DeleteFunc(servers, func(s *peer.Server) bool { return !chosen[s.Name] })
	for _, s := range servers {
		if s.Command == nil {
			continue
		}
		proc, err := start(ctx, s, &scenario{mode: peer.Echo}, 0, "")
		if err != nil {
			return nil, fmt.Errorf("%w; README.md says what it needs", err)
		}
		proc.stop()
	}
	return servers, nil
}

func printList(out io.Writer) error {
	b := new(strings.Builder)
	b.WriteString("| scenario | |\n|---|---|\n")
	for _, s := range scenarios() {
		table{b}.row("`"+s.Name+"`", s.Title)
	}
	b.WriteString("\nOnly when asked for:\n\n| scenario | |\n|---|---|\n")
	for _, s := range matrix() {
		table{b}.row("`"+s.Name+"`", s.Title)
	}
	b.WriteString("\n")
	serverTable(b, slices.Concat(peer.All, peer.Optional))
	_, err := io.WriteString(out, b.String())
	return err
}
