package main

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/flyteorg/flyte/flyteplugins/go/tasks/plugins/webapi/connector"
	taskconfig "github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes/task/config"
)

// report writes lines of JSON: {"kind": ..., "at": seconds since the start, ...}.
type report struct {
	mu      sync.Mutex
	to      *json.Encoder
	started time.Time
}

func newReport(to io.Writer) *report {
	return &report{to: json.NewEncoder(to), started: time.Now()}
}

func (r *report) write(kind string, fields map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := map[string]any{"kind": kind, "at": time.Since(r.started).Seconds()}
	for name, value := range fields {
		line[name] = value
	}
	_ = r.to.Encode(line)
}

// printSettings shows what arrived, in the plugin's own types, so that a test sees a key that the
// loader dropped or lower-cased.
func printSettings(out *report) error {
	plugin, tasks := connector.GetConfig(), taskconfig.GetConfig().TaskPlugins
	out.write("settings", map[string]any{
		"enabled_plugins": tasks.EnabledPlugins, "default_for_task_types": tasks.DefaultForTaskTypes,
		"connector_service": plugin,
	})
	return nil
}
