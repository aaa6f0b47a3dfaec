// Command interop is FlytePropeller with one task to run: Flyte's own workflow executor, node
// executor, task handler, connector plugin and cache, with a file where Propeller has etcd and
// lines of JSON where it has flyteadmin. tests/interop/propeller.py drives it; README.md explains.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/flyteorg/flyte/flytestdlib/config"
	"github.com/flyteorg/flyte/flytestdlib/config/viper"
	"github.com/spf13/pflag"
)

type options struct {
	config   string
	state    string
	task     string
	inputs   string
	name     string
	attempts int
	reeval   time.Duration
	limit    time.Duration
	lose     bool
	settings bool
}

func main() {
	var o options
	flag.StringVar(&o.config, "config", "", "FlytePropeller's configuration: YAML files, with commas between them")
	flag.StringVar(&o.state, "state", "", "directory for what Propeller keeps: the workflow and its data")
	flag.StringVar(&o.task, "task", "", "the task to run: a flyteidl.core.TaskTemplate, binary; not needed when -state holds one")
	flag.StringVar(&o.inputs, "inputs", "", "its inputs: a flyteidl.core.LiteralMap, binary")
	flag.StringVar(&o.name, "name", "run", "name of the execution")
	flag.IntVar(&o.attempts, "attempts", 1, "attempts that the node may use: retries + 1")
	flag.DurationVar(&o.reeval, "reeval", time.Second, "how often the workflow is looked at (Propeller: 10s)")
	flag.DurationVar(&o.limit, "limit", 90*time.Second, "give up after this long")
	flag.BoolVar(&o.lose, "lose-create", false, "lose the state of the round that made the first CreateTask")
	flag.BoolVar(&o.settings, "settings", false, "only load the configuration, strictly, and print what the plugin reads")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := load(ctx, o.config, o.settings); err != nil {
		return err
	}
	out := newReport(os.Stdout)
	if o.settings {
		return printSettings(out)
	}
	calls := recordCalls(out)
	workflows := &workflowFile{dir: o.state}
	if lost := false; o.lose {
		workflows.lose = func() bool {
			now := !lost && calls.total("CreateTask") > 0
			lost = lost || now
			return now
		}
	}
	data, err := newDataStore(o.state)
	if err != nil {
		return err
	}
	if !workflows.exists() {
		if err := createWorkflow(ctx, workflows, o); err != nil {
			return err
		}
	}
	events := &eventSink{out: out, data: data}
	propeller, err := newPropeller(ctx, workflows, data, events)
	if err != nil {
		return err
	}
	out.write("ready", nil)
	if err := reconcile(ctx, propeller, workflows, out, o); err != nil {
		return err
	}
	status, err := workflows.status(ctx)
	if err != nil {
		return err
	}
	calls.wait(5 * time.Second)
	out.write("end", map[string]any{
		"phase": status.Phase.String(), "failed_rounds": status.FailedAttempts,
		"message": status.Message, "calls": calls.counts(),
	})
	return nil
}

// reconcile is the work queue: a round at each re-evaluation, at once where Propeller enqueues the
// workflow itself, and a second after a failed round.
func reconcile(ctx context.Context, p *propeller, workflows *workflowFile, out *report, o options) error {
	deadline := time.After(o.limit)
	commands := readLines(os.Stdin)
	for {
		pause, enqueued := o.reeval, p.enqueued
		if err := p.handler.Handle(ctx, namespace, workflowName); err != nil {
			out.write("failed_round", map[string]any{"error": err.Error()})
			pause, enqueued = time.Second, nil
		}
		if status, err := workflows.status(ctx); err != nil {
			return err
		} else if status.IsTerminated() {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-enqueued:
			time.Sleep(10 * time.Millisecond)
		case line := <-commands:
			if line != "abort" {
				return fmt.Errorf("unknown command %q, there is only abort", line)
			}
			if err := workflows.markDeleted(ctx); err != nil {
				return err
			}
		case <-deadline:
			return fmt.Errorf("the workflow is not done after %s", o.limit)
		}
	}
}

func readLines(from *os.File) <-chan string {
	lines := make(chan string)
	go func() {
		scanner := bufio.NewScanner(from)
		for scanner.Scan() {
			lines <- strings.TrimSpace(scanner.Text())
		}
	}()
	return lines
}

// load is FlytePropeller's own way to its configuration. Propeller itself is not strict and
// ignores a misspelt key; what we print for it must not have one.
func load(ctx context.Context, files string, strict bool) error {
	paths := strings.Split(files, ",")
	accessor := viper.NewAccessor(config.Options{StrictMode: strict, SearchPaths: paths})
	accessor.InitializePflags(pflag.NewFlagSet("interop", pflag.ContinueOnError))
	return accessor.UpdateConfig(ctx)
}
