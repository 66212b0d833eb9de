package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// A process is a server that was started.
type process struct {
	hello
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startup is how long a server may take to start, or to end by itself.
const startup = 10 * time.Second

// start runs this program again as a server for a scenario, or another. ctx's end
// kills it. A profile is written to that file if it is named.
func start(ctx context.Context, server *peer.Server, s *scenario, cpus int, profile string) (*process, error) {
	command := server.Command
	if command == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self, "serve", server.Name, fmt.Sprintf("-tls=%t", s.tls), fmt.Sprintf("-idle=%t", s.kind == load.Idle), "-cpuprofile", profile}
	}
	args := append(command[1:len(command):len(command)], "-mode", string(s.mode))
	if s.ping > 0 {
		args = append(args, "-ping", s.ping.String())
	}
	p := &process{cmd: exec.CommandContext(ctx, command[0], args...)}
	p.cmd.Stderr = os.Stderr
	if cpus > 0 {
		p.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", cpus))
	}
	// What still holds its output after its death must not hold up us.
	p.cmd.WaitDelay = startup
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.read(&p.hello); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not start: %w", server.Name, err)
	}
	return p, nil
}

// ask sends a command and waits for the answer.
func (p *process) ask(command string) (status, error) {
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		return status{}, err
	}
	var st status
	err := p.read(&st)
	return st, err
}

func (p *process) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err == io.EOF {
		return errors.New("the server has ended")
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// stop ends the process and returns when it has.
func (p *process) stop() {
	_ = p.in.Close()
	slow := time.AfterFunc(startup, func() { _ = p.cmd.Process.Kill() })
	defer slow.Stop()
	_ = p.cmd.Wait()
}
